package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

func newVTPMRekeyCommand(a *app) *cobra.Command {
	var tpmstate, oldKey, newKey string
	var unseal bool
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Seal a vTPM's state with another key",
		Long: `Seal the state of a vTPM that is off with another key, or seal what was in clear.
The file is replaced at once; a crash leaves it as it was or as it should be.`,
		Example: `  openssl rand -hex 32 >/etc/vtpm/web1.key
  vouchsafe vtpm rekey --tpmstate dir=/var/lib/vtpm/web1 --new-key file=/etc/vtpm/web1.key`,
		Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, mode, err := tpmStateDir("tpmstate", tpmstate)
			if err != nil {
				return err
			}
			if (newKey == "") != unseal {
				return usageError{fmt.Errorf("name the key with --new-key, or say --unseal")}
			}
			cfg := vtpm.Config{Dir: dir, Mode: mode}
			if cfg.Key, err = parseKey("key", oldKey); err != nil {
				return err
			}
			to, err := parseKey("new-key", newKey)
			if err != nil {
				return err
			}
			instance, err := vtpm.Open(cfg)
			if err != nil {
				return a.refused(err)
			}
			defer instance.Close()
			if err := instance.Rekey(to); err != nil {
				return a.refused(err)
			}
			if a.json {
				return a.printJSON(map[string]any{"dir": dir, "vtpm": instance.ID().String(), "sealed": !unseal})
			}
			if unseal {
				fmt.Fprintf(a.err, a.say("%s is in clear now\n", "%s 现在是明文\n"), dir)
			} else {
				fmt.Fprintf(a.err, a.say("%s is sealed with the new key\n", "%s 已用新密钥密封\n"), dir)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&tpmstate, "tpmstate", "", "where the state is: dir=DIR")
	cmd.Flags().StringVar(&oldKey, "key", "", "the key it is sealed with, as for vtpm serve")
	cmd.Flags().StringVar(&newKey, "new-key", "", "the key to seal it with")
	cmd.Flags().BoolVar(&unseal, "unseal", false, "leave it in clear")
	return cmd
}
