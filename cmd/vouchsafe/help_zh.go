package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The help of a command is written in English where the command is made. Here it
// is put into Chinese, after the tree stands and before a person reads it:
// shortZH and flagsZH by the English line, longZH by the command. A test walks
// the tree and fails for whatever has no Chinese.

// longHelp is a command's long text in Chinese. Nobody wants the English twice,
// so its checksum stands for it: the test says when the one was changed and the
// other must be looked at.
type longHelp struct {
	of uint32 // CRC-32 of the English
	zh string
}

// speakChinese puts the help of root and all below it into Chinese.
func speakChinese(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetUsageFunc(func(cmd *cobra.Command) error { return usageZH(cmd.OutOrStderr(), cmd) })
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		if zh, ok := shortZH[cmd.Short]; ok {
			cmd.Short = zh
		}
		if long, ok := longZH[cmd.CommandPath()]; ok && long.of == crc32.ChecksumIEEE([]byte(cmd.Long)) {
			cmd.Long = long.zh
		}
		cmd.Example = exampleComment.ReplaceAllStringFunc(cmd.Example, func(comment string) string {
			if zh, ok := commentsZH[strings.TrimLeft(comment, "# ")]; ok {
				return "# " + zh
			}
			return comment
		})
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			switch zh, ok := flagsZH[f.Usage]; {
			case ok:
				f.Usage = zh
			case f.Name == "help":
				f.Usage = "显示本帮助"
			}
		})
	})
}

// exampleComment is what an example says to people.
var exampleComment = regexp.MustCompile(`# .*`)

func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, do)
	}
}

// flagDefault is what pflag adds to a flag's usage.
var flagDefault = regexp.MustCompile(`(?m) \(default (.*)\)$`)

// usageZH is cobra's usage text, in Chinese.
func usageZH(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("用法：")
	if cmd.Runnable() {
		b.WriteString("\n  " + strings.Replace(cmd.UseLine(), "[flags]", "[选项]", 1))
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n  " + cmd.CommandPath() + " [命令]")
	}
	b.WriteByte('\n')
	if cmd.HasExample() {
		b.WriteString("\n示例：\n" + cmd.Example + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n命令：\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s %s\n", cmd.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	for _, part := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"选项：", cmd.LocalFlags()}, {"全局选项：", cmd.InheritedFlags()}} {
		if part.flags.HasAvailableFlags() {
			flags := flagDefault.ReplaceAllString(strings.TrimRight(part.flags.FlagUsages(), "\n"), "（默认 $1）")
			b.WriteString("\n" + part.title + "\n" + flags + "\n")
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n用“%s [命令] --help”查看各命令的帮助。\n", cmd.CommandPath())
	}
	_, err := io.WriteString(w, b.String())
	return err
}
