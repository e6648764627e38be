package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/chinese"
)

// Exit codes, the same for every command. Add, never renumber.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitFindings    = 3
	exitInterrupted = 130
)

// app is what every command gets: where to read and write, and how.
// Data goes to out, words for a person to err.
type app struct {
	in       io.Reader
	out, err io.Writer
	json     bool // --json: data as JSON objects, one a line
	langFlag string
}

// lang is the language for a person's words: --lang, else LC_ALL, LC_MESSAGES or LANG, else English.
func (a *app) lang() finding.Lang {
	want := a.langFlag
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if want == "" {
			want = os.Getenv(name)
		}
	}
	if strings.HasPrefix(want, "zh") {
		return finding.Chinese
	}
	return finding.English
}

// say picks the words for the person's language.
func (a *app) say(en, zh string) string {
	return finding.Text{EN: en, ZH: zh}.In(a.lang())
}

// count is a number of things: "1 boot", "2 boots". zh has the measure word.
func (a *app) count(n int, en, zh string) string {
	if n != 1 {
		en += "s"
	}
	return fmt.Sprintf("%d ", n) + a.say(en, zh)
}

// words is text that was made in English elsewhere (an error, a hint, what was
// seen), in the person's language. It is for what is printed last: code goes on
// with the English.
func (a *app) words(text string) string {
	if a.lang() == finding.Chinese {
		return chinese.Of(text)
	}
	return text
}

// dataLang is the language of what goes to standard output: the person's, and
// English for programs. JSON does not change with the language.
func (a *app) dataLang() finding.Lang {
	if a.json {
		return finding.English
	}
	return a.lang()
}

// printJSON writes v as one line of JSON to standard output.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errFindings ends a command that did its work and found something: exit
// code 3, and nothing more to print.
var errFindings = errors.New("there are findings")

// hinted is an error with a way out: what to type next.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

// withHint adds the next thing to type to err.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw}
	a.langFlag = langIn(args) // a command line that does not parse is still answered in its language
	root := newRoot(a)
	if a.lang() == finding.Chinese {
		speakChinese(root)
	}
	root.SetArgs(args[1:])
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFindings):
		return exitFindings
	case ctx.Err() != nil:
		fmt.Fprintln(errw, a.say("interrupted", "已中断"))
		return exitInterrupted
	}
	fmt.Fprintf(errw, "%s%s\n", a.say("error: ", "错误："), a.words(plain(err)))
	fmt.Fprintf(errw, "%s%s\n", a.say("hint: ", "提示："), a.hint(a.wayOut(cmd, err)))
	var u usageError
	if errors.As(err, &u) || isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// langIn finds --lang in a command line that may not parse.
func langIn(args []string) string {
	for i, arg := range args {
		if v, ok := strings.CutPrefix(arg, "--lang="); ok {
			return v
		}
		if arg == "--lang" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// isUsage recognises cobra's own complaint about a word it does not know.
func isUsage(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command")
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
