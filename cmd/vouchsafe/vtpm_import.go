package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

func newVTPMImportCommand(a *app) *cobra.Command {
	var key string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import-swtpm DIR",
		Short: "Take over the TPM 2.0 that swtpm keeps in DIR",
		Long: `Take over the TPM 2.0 that swtpm keeps in DIR (tpm2-00.permall, and tpm2-00.volatilestate
of a suspended one), as libtpms 0.7 to 0.10 wrote it. Persistent keys, NV indexes, counters,
seeds, authorizations and policies come along; primary keys come out the same as under
swtpm, so what is sealed to the TPM opens, and its EK certificates go on to hold.

swtpm's files are not changed. The state of vouchsafe is written beside them, for the same
owner and sealed with the key that opened swtpm's; vtpm.takeover records what was done. A
crash in the middle loses nothing: give the command again. Do not run swtpm on DIR
afterwards: that would be a second copy of one TPM.

Called by the name swtpm (as libvirt does), vouchsafe does all this by itself when it finds
swtpm's state and none of its own.`,
		Example: `  vouchsafe vtpm import-swtpm --dry-run /var/lib/libvirt/swtpm/UUID/tpm2
  vouchsafe vtpm import-swtpm --key file=/etc/vtpm/web1.key,mode=aes-256-cbc /var/lib/vtpm/web1`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg := vtpm.Config{Dir: args[0], Log: slog.New(slog.DiscardHandler)}
			var err error
			if cfg.Key, err = parseKey("key", key); err != nil {
				return err
			}
			done, err := vtpm.Import(cfg, dryRun)
			if info, e := os.Stat(args[0]); err != nil && e == nil && !info.IsDir() {
				return withHint(usageError{err}, "vouchsafe vtpm import-swtpm %s", filepath.Dir(args[0]))
			}
			if err != nil {
				return a.refused(err)
			}
			return a.tellTakeOver(args[0], done)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the key that swtpm had, as for vtpm serve; it seals the new state too")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say whether it can be taken over; write nothing")
	return cmd
}

// tellTakeOver says what came along and what did not.
func (a *app) tellTakeOver(dir string, t *vtpm.TakeOver) error {
	if a.json {
		return a.printJSON(t)
	}
	say := func(en, zh string, args ...any) { fmt.Fprintf(a.err, a.say(en, zh)+"\n", args...) }
	switch {
	case t.DryRun:
		say("%s can be taken over", "%s 可以接管", dir)
	case t.Already:
		say("%s was taken over on %s; nothing was done", "%s 已于 %s 接管；未做任何事", dir, t.At.Format("2006-01-02 15:04:05 MST"))
	default:
		say("%s is taken over as vTPM %s; swtpm's files are as they were", "%s 已接管为 vTPM %s；swtpm 的文件保持原样", dir, t.ID)
	}
	say("primary keys: derived as %s does, so they are the same", "主密钥：按 %s 的方式派生，因此不变", t.Derivation)
	say("persistent keys: %s", "持久密钥：%s", orNone(a, t.Keys))
	say("NV indexes: %s", "NV 索引：%s", orNone(a, t.Indexes))
	if t.Suspended {
		say("it was suspended, and goes on where it was", "它处于挂起状态，将从原处继续")
	}
	for _, l := range t.Left {
		say("left behind: %s", "未能接管：%s", l)
	}
	return nil
}

func orNone(a *app, list []string) string {
	if len(list) == 0 {
		return a.say("none", "无")
	}
	return strings.Join(list, " ")
}
