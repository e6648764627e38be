package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// wayOut is what to type next when an error does not say so itself: by the file
// that it is about, or where help is.
func (a *app) wayOut(cmd *cobra.Command, err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	if errors.Is(err, store.ErrFull) || errors.Is(err, audit.ErrFull) {
		return a.say("make room: df -h", "请腾出空间：df -h")
	}
	var p *fs.PathError
	if !errors.As(err, &p) {
		return cmd.CommandPath() + " --help"
	}
	dir := filepath.Dir(p.Path)
	switch {
	case errors.Is(p.Err, syscall.ENOTDIR):
		for dir = p.Path; !exists(dir) && dir != filepath.Dir(dir); { // up to what is there
			dir = filepath.Dir(dir)
		}
		return fmt.Sprintf(a.say("a part of that path is a file: ls -ld %s", "该路径的某一部分是文件：ls -ld %s"), dir)
	case errors.Is(p.Err, syscall.EISDIR):
		return fmt.Sprintf(a.say("name a file in it: ls %s", "请指定其中的文件：ls %s"), p.Path)
	case errors.Is(p.Err, fs.ErrNotExist):
		return fmt.Sprintf(a.say("is that the right name? ls -l %s", "名称是否正确？ls -l %s"), dir)
	case errors.Is(p.Err, fs.ErrExist):
		return fmt.Sprintf(a.say("choose another name, or move it away: mv %s %s.old", "请换一个名称，或移走它：mv %s %s.old"), p.Path, p.Path)
	case errors.Is(p.Err, fs.ErrPermission):
		return fmt.Sprintf(a.say("run it as the user whose it is: ls -ld %s %s", "请以其所属用户运行：ls -ld %s %s"), dir, p.Path)
	case errors.Is(p.Err, syscall.ENOSPC), errors.Is(p.Err, syscall.EDQUOT):
		return fmt.Sprintf(a.say("make room: df -h %s", "请腾出空间：df -h %s"), dir)
	case errors.Is(p.Err, syscall.EROFS):
		return fmt.Sprintf(a.say("that file system is mounted read-only: findmnt -T %s", "该文件系统以只读方式挂载：findmnt -T %s"), dir)
	}
	return cmd.CommandPath() + " --help"
}

// plain is an error's text without the name of the system call, which tells a
// person nothing: "open FILE: …" is "FILE: …".
func plain(err error) string {
	text := err.Error()
	var p *fs.PathError
	if !errors.As(err, &p) {
		return text
	}
	before, after, ok := strings.Cut(text, p.Op+" "+p.Path+": ")
	switch {
	case !ok:
		return text
	case strings.Contains(before, p.Path): // it was named
		return before + after
	}
	return before + p.Path + ": " + after
}

// exactArgs wants n words after the command, and calls anything else bad usage.
func exactArgs(n int) cobra.PositionalArgs { return rangeArgs(n, n) }

// minArgs wants n words or more after the command.
func minArgs(n int) cobra.PositionalArgs { return rangeArgs(n, int(^uint(0)>>1)) }

// rangeArgs names the word that is missing, by the usage line, or the one too many.
func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > most:
			return usageError{fmt.Errorf("%q is one word too many", args[most])}
		case len(args) < least:
			if want := wordsOf(cmd.Use); len(args) < len(want) {
				return usageError{fmt.Errorf("%s is missing", want[len(args)])}
			}
			return usageError{fmt.Errorf("%d words are needed, %d are there", least, len(args))}
		}
		return nil
	}
}

// wordsOf are the words of a usage line that are neither the command, a flag, a
// flag's value nor in brackets.
func wordsOf(use string) []string {
	var out []string
	fields := strings.Fields(use)[1:]
	for i := 0; i < len(fields); i++ {
		switch f := fields[i]; {
		case strings.HasPrefix(f, "["):
			for i < len(fields)-1 && !strings.Contains(fields[i], "]") {
				i++
			}
		case strings.HasPrefix(f, "-"):
			i++
		default:
			out = append(out, f)
		}
	}
	return out
}
