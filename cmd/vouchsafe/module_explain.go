package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func newModuleExplainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain < LOG",
		Short: "Say what a kernel's log lines about modules mean, and what to do",
		Long: `Say what a kernel's log lines about modules mean, and what to do.

Reads standard input: dmesg, journalctl -k, or what modprobe said. Each cause is
told once, with its lines. Exit code 0: nothing is wrong. 3: something is.`,
		Example: `  dmesg | vouchsafe module explain
  journalctl -b -1 -k | vouchsafe module explain --lang zh`,
		Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error { return explainLog(a) },
	}
}

// maxCauses bounds what explain keeps of a log that repeats itself in many ways.
const maxCauses = 1000

func explainLog(a *app) error {
	type cause struct {
		finding.Finding
		times int
	}
	var causes []*cause
	seen := map[string]*cause{}
	in := bufio.NewReaderSize(a.in, 64<<10)
	for {
		line, err := readLogLine(in)
		if f, ok := modsig.Explain(line); ok {
			key := f.Code + " " + f.Subject + " " + f.Meaning
			if c := seen[key]; c != nil {
				c.times++
			} else if len(causes) < maxCauses {
				c := &cause{f.In(a.dataLang()), 1}
				seen[key], causes = c, append(causes, c)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
	}
	worst := finding.Severity("")
	for _, c := range causes {
		worst = finding.Worst([]finding.Finding{{Severity: worst}, c.Finding})
		if a.json {
			if err := a.printJSON(c.Finding); err != nil {
				return err
			}
			continue
		}
		times := ""
		if c.times > 1 {
			times = fmt.Sprintf(a.say(" (%d times)", "（%d 次）"), c.times)
		}
		fmt.Fprintf(a.out, "%s%s\n  %s%s\n  %s%s\n\n", c.Evidence, times, a.coded(c.Finding), c.Meaning, a.say("remedy: ", "处理："), c.Remedy)
	}
	if len(causes) == 0 {
		fmt.Fprintln(a.err, a.say("no line is about a module's signature", "没有与模块签名有关的日志"))
	}
	if worst == finding.Error || worst == finding.Warning {
		return errFindings
	}
	return nil
}

// readLogLine returns the next line; of one longer than the buffer, its start.
func readLogLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	s := string(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	return s, err
}
