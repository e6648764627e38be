package main

import (
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelpIsChinese: every command, flag and remark in an example has its
// Chinese, and no Chinese is left of what has gone.
func TestHelpIsChinese(t *testing.T) {
	root := newRoot(&app{})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	short, flags, long, comments := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	eachCommand(root, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		short[cmd.Short] = true
		if shortZH[cmd.Short] == "" {
			t.Errorf("%s: help_zh_short.go lacks %q", path, cmd.Short)
		}
		if sum := crc32.ChecksumIEEE([]byte(cmd.Long)); cmd.Long != "" {
			long[path] = true
			switch zh, ok := longZH[path]; {
			case !ok || zh.zh == "":
				t.Errorf("help_zh_long.go lacks %q: {%#08x, `…`}", path, sum)
			case zh.of != sum:
				t.Errorf("the help of %q was changed: mend help_zh_long.go, then write %#08x there", path, sum)
			}
		}
		for _, c := range exampleComment.FindAllString(cmd.Example, -1) {
			c = strings.TrimLeft(c, "# ")
			comments[c] = true
			if commentsZH[c] == "" {
				t.Errorf("%s: commentsZH in help_zh_short.go lacks %q", path, c)
			}
		}
		for _, group := range cmd.Groups() {
			t.Errorf("%s: the title %q of a group has no place in usageZH", path, group.Title)
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			flags[f.Usage] = true
			if f.Usage != "" && f.Name != "help" && flagsZH[f.Usage] == "" {
				t.Errorf("%s --%s: help_zh_flags.go lacks %q", path, f.Name, f.Usage)
			}
			if zh := flagsZH[f.Usage]; strings.Count(zh, "`") != strings.Count(f.Usage, "`") {
				t.Errorf("%s --%s: the name of its value is lost", path, f.Name)
			}
		})
	})
	for en := range shortZH {
		if !short[en] {
			t.Errorf("help_zh_short.go: no command says %q", en)
		}
	}
	for en := range flagsZH {
		if !flags[en] {
			t.Errorf("help_zh_flags.go: no flag says %q", en)
		}
	}
	for path := range longZH {
		if !long[path] {
			t.Errorf("help_zh_long.go: there is no long text of %q", path)
		}
	}
	for en := range commentsZH {
		if !comments[en] {
			t.Errorf("commentsZH: no example says %q", en)
		}
	}
}

// TestHelpKeepsNames: what is typed is not translated. Options and upper-case
// words of the English are in the Chinese.
func TestHelpKeepsNames(t *testing.T) {
	for en, zh := range flagsZH {
		for _, word := range strings.FieldsFunc(en, func(r rune) bool { return strings.ContainsRune(" ,;:()", r) }) {
			if strings.HasPrefix(word, "--") && !strings.Contains(zh, word) {
				t.Errorf("%q lacks %s", zh, word)
			}
		}
	}
}

// TestHelpPrintsNoEnglishHeadings of cobra's.
func TestHelpPrintsNoEnglishHeadings(t *testing.T) {
	var paths [][]string
	eachCommand(newRoot(&app{}), func(cmd *cobra.Command) {
		paths = append(paths, append(strings.Fields(cmd.CommandPath()), "--help", "--lang", "zh"))
	})
	paths = append(paths, []string{"vouchsafe", "help", "vm", "--lang", "zh"}, []string{"vouchsafe", "completion", "--help", "--lang=zh"})
	for _, args := range paths {
		var out, errw strings.Builder
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errw); code != exitDone || errw.Len() > 0 {
			t.Errorf("%q: exit code %d: %s", args, code, errw.String())
		}
		for _, english := range []string{"Usage:", "Flags:", "Available", "Examples:", "help for", "(default ", "for more information", "[flags]", "[command]"} {
			if strings.Contains(out.String(), english) {
				t.Errorf("%q prints %q", args, english)
			}
		}
		if !slices.ContainsFunc([]rune(out.String()), func(r rune) bool { return r >= 0x4e00 && r < 0xa000 }) {
			t.Errorf("%q is not Chinese:\n%s", args, out.String())
		}
	}
}
