package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/audit"
)

func newAuditCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit log: list, verify, checkpoint, key", Args: cobra.NoArgs}
	cmd.AddCommand(newAuditVerifyCommand(a), newAuditListCommand(a), newAuditCheckpointCommand(a), newAuditKeyCommand(a))
	return cmd
}

// auditFlags say which log is meant; neither verifying nor listing needs the service or a secret.
type auditFlags struct{ state, dir, key string }

func (f *auditFlags) add(cmd *cobra.Command) {
	stateFlag(cmd, &f.state)
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory of the log (default audit in the state directory)")
	cmd.Flags().StringVar(&f.key, "key", "", "file with the log's verifier key (default: the service's own)")
}

func (f *auditFlags) open() (dir, key string, err error) {
	if f.dir == "" || f.key == "" {
		state, err := stateDir(f.state)
		if err != nil {
			return "", "", err
		}
		s, err := readService(state)
		if err != nil {
			return "", "", err
		}
		dir, key = filepath.Join(state, dirAudit), s.AuditKey
	}
	if f.dir != "" {
		dir = f.dir
	}
	if f.key != "" {
		text, err := os.ReadFile(f.key)
		if err != nil {
			return "", "", err
		}
		key = strings.TrimSpace(string(text))
		if _, err := note.NewVerifier(key); err != nil {
			return "", "", withHint(usageError{fmt.Errorf("%s holds no verifier key", f.key)}, "vouchsafe audit key > %s, where the service is", f.key)
		}
	}
	return dir, key, nil
}

func newAuditVerifyCommand(a *app) *cobra.Command {
	var f auditFlags
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the whole log, and that it agrees with checkpoints kept elsewhere",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, key, err := f.open()
			if err != nil {
				return err
			}
			outside, err := readCheckpoints(checkpoints)
			if err != nil {
				return err
			}
			r, err := audit.Verify(dir, key, outside, nil)
			if err != nil {
				return err
			}
			if a.json {
				for _, f := range r.Findings {
					if err := a.printJSON(f.In(a.dataLang())); err != nil {
						return err
					}
				}
				if err := a.printJSON(map[string]any{"summary": map[string]any{"records": r.Records, "checkpoints": r.Checkpoints, "outside": r.Outside, "root": r.Root, "from": r.From, "to": r.To}}); err != nil {
					return err
				}
			} else {
				a.printFindings(r.Findings)
				fmt.Fprintf(a.err, a.say("%s, %s inside, %d from elsewhere, from %s to %s\n", "%s，内部%s，外部检查点 %d 个，自 %s 至 %s\n"),
					a.count(int(r.Records), "record", "条记录"), a.count(int(r.Checkpoints), "checkpoint", "个检查点"), r.Outside, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
				if r.Outside == 0 && finding.Worst(r.Findings) != finding.Error {
					fmt.Fprintln(a.err, a.say("note: without a checkpoint that was kept elsewhere, a cut tail or a history written anew cannot be seen: --checkpoint FILE",
						"注意：若没有异地保存的检查点，无法发现被截断的末尾或被重写的历史：--checkpoint FILE"))
				}
			}
			return worst(r.Findings)
		},
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&checkpoints, "checkpoint", nil, "file with a checkpoint that was kept elsewhere; may be repeated")
	return cmd
}

func readCheckpoints(files []string) ([]audit.Outside, error) {
	var out []audit.Outside
	for _, f := range files {
		signed, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, audit.Outside{Name: f, Signed: signed})
	}
	return out, nil
}

// worst turns findings into how a command ends.
func worst(fs []finding.Finding) error {
	if w := finding.Worst(fs); w == finding.Error || w == finding.Warning {
		return errFindings
	}
	return nil
}

// printFindings writes findings for a person.
func (a *app) printFindings(fs []finding.Finding) {
	for _, f := range fs {
		if a.lang() == finding.Chinese {
			f = inChinese(f)
		}
		fmt.Fprintf(a.out, "%s%s\n", a.coded(f), a.words(f.Subject))
		if f.Evidence != "" {
			fmt.Fprintf(a.out, "  %s\n", f.Evidence)
		}
		fmt.Fprintf(a.out, "  %s\n  %s%s\n", f.Meaning, a.say("remedy: ", "处理："), f.Remedy)
	}
}

func newAuditListCommand(a *app) *cobra.Command {
	var f auditFlags
	var object string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the log's records",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, key, err := f.open()
			if err != nil {
				return err
			}
			var failed error
			r, err := audit.Verify(dir, key, nil, func(r audit.Record) {
				if object != "" && r.Object != object || failed != nil {
					return
				}
				if a.json {
					failed = a.printJSON(r)
					return
				}
				line := fmt.Sprintf(a.say("%6d  %s  %-8s  %-18s %s  by %s", "%6d  %s  %-8s  %-18s %s  操作者 %s"), r.N, r.Time.Format(time.RFC3339), r.Phase, r.Action, r.Object, r.Actor)
				if why := r.Detail["why"]; why != "" {
					line += a.say(": ", "：") + a.words(why)
				}
				_, failed = fmt.Fprintln(a.out, line)
			})
			if err == nil {
				err = failed
			}
			if err != nil {
				return err
			}
			if finding.Worst(r.Findings) == finding.Error {
				fmt.Fprintln(a.err, a.say("the log does not verify: vouchsafe audit verify", "日志未通过校验：vouchsafe audit verify"))
				return errFindings
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&object, "object", "", "only what was done to this VM, certificate, …")
	return cmd
}

func newAuditCheckpointCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest signed checkpoint, to keep it elsewhere",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v api.Checkpoint
			if err := f.call(cmd.Context(), "GET", "/v1/audit/checkpoint", nil, &v); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			_, err := fmt.Fprint(a.out, v.Checkpoint)
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func newAuditKeyCommand(a *app) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the log's verifier key, to keep it elsewhere",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			s, err := readService(dir)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"key": s.AuditKey})
			}
			_, err = fmt.Fprintln(a.out, s.AuditKey)
			return err
		},
	}
	stateFlag(cmd, &state)
	return cmd
}
