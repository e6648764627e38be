package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

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

// ended ends a command with the exit code of another process, which has said why.
type ended struct{ code int }

func (e ended) Error() string { return fmt.Sprintf("ended with %d", e.code) }

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
	written := &written{to: out}
	a := &app{in: in, out: written, err: errw}
	a.langFlag = langIn(args) // a command line that does not parse is still answered in its language
	root := newRoot(a)
	if a.lang() == finding.Chinese {
		speakChinese(root)
	}
	root.SetArgs(args[1:])
	cmd, err := root, checkLang(a.langFlag)
	if err == nil {
		cmd, err = execute(ctx, root, args[1:])
	}
	if err == nil || errors.Is(err, errFindings) {
		if e := written.failed(); e != nil {
			err = e
		}
	}
	var other ended
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.As(err, &other):
		return other.code
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

// written is standard output, and the first error of writing to it: data that did
// not arrive are no success, whoever printed them.
type written struct {
	to  io.Writer
	mu  sync.Mutex
	err error // guarded by mu
}

func (w *written) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	if err != nil {
		w.mu.Lock()
		w.err = cmp.Or(w.err, err)
		w.mu.Unlock()
	}
	return n, err
}

func (w *written) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return nil
	}
	err := w.err
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // nobody typed /dev/stdout
	}
	return withHint(fmt.Errorf("writing what was asked for: %w", err), "where does the output go, and is there room? df -h .")
}

// lasting are the commands that end in their own time when they are interrupted:
// they have something to bring to an end.
var lasting = []string{"vouchsafe demo", "vouchsafe up", "vouchsafe server", "vouchsafe host run", "vouchsafe vtpm serve",
	"vouchsafe backup", "vouchsafe restore", "vouchsafe key rotate"}

// patience is how long any other command may go on after a signal. One that waits
// for a FIFO, or reads a terminal, never learns of it.
const patience = 2 * time.Second

// execute runs the command that args name until it is done, or interrupted.
func execute(ctx context.Context, root *cobra.Command, args []string) (*cobra.Command, error) {
	cmd, _, err := root.Find(args)
	if err == nil && slices.Contains(lasting, cmd.CommandPath()) {
		return root.ExecuteContextC(ctx)
	}
	type result struct {
		cmd *cobra.Command
		err error
	}
	done := make(chan result, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		done <- result{cmd, err}
	}()
	select {
	case r := <-done:
		return r.cmd, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.cmd, r.err
	case <-time.After(patience):
		return cmd, ctx.Err()
	}
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

// checkLang refuses a language that nothing here speaks. One in LANG is no mistake.
func checkLang(lang string) error {
	if lang == "" || strings.HasPrefix(lang, "en") || strings.HasPrefix(lang, "zh") {
		return nil
	}
	return withHint(usageError{fmt.Errorf("--lang %s: it is en or zh", lang)}, "--lang en")
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
