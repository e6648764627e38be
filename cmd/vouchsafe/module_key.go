package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func newModuleKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "A CA for modules alone, and the signing key under it, in the service's keyring",
		Long: `A CA for modules alone, and the signing key under it, in the service's keyring.

The CA's certificate is enrolled once on every machine (mokutil --import FILE,
reboot, confirm). Signing is done with a key that lives half a year; rotate
makes the next one, and nothing needs to be enrolled again. The private keys
never lie on a disk in clear, and every use is in the service's audit log before
it happens (vouchsafe audit list).

The service is that of the state directory (vouchsafe init makes one): opened
here, or asked over its API while its server runs. --state also takes the
directory of a credential with a file url, for a service on another machine.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModuleKeyInitCommand(a), newModuleKeyRotateCommand(a), newModuleKeyShowCommand(a))
	return cmd
}

func newModuleKeyInitCommand(a *app) *cobra.Command {
	var state, enrol string
	var in api.NewModuleKeys
	cmd := &cobra.Command{
		Use:   "init [--name NAME] [--kind KIND] [--enrol FILE]",
		Short: "Make a CA for modules and its first signing key",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isKind(in.Kind) {
				return usageError{fmt.Errorf("--kind %s is none of %s", in.Kind, strings.Join(modkeys.Kinds, ", "))}
			}
			s, err := openKeyService(cmd.Context(), state)
			if err != nil {
				return err
			}
			defer s.close()
			got, err := s.init(cmd.Context(), in)
			if err != nil {
				return err
			}
			if err := writeEnrolment(got, enrol); err != nil {
				return err
			}
			if a.json {
				return a.printModuleKeys(got)
			}
			if enrol == "" {
				enrol = "ca.der"
				fmt.Fprintln(a.err, a.say("made a CA for modules and a signing key under it; vouchsafe module key show --enrol ca.der writes what to enrol", "已生成模块专用 CA 及其下的签名密钥；vouchsafe module key show --enrol ca.der 可写出待导入的证书"))
			} else {
				fmt.Fprintf(a.err, a.say("made a CA for modules and a signing key under it; its certificate is in %s\n", "已生成模块专用 CA 及其下的签名密钥；证书在 %s\n"), enrol)
			}
			fmt.Fprintf(a.err, a.say("enrol it on every machine: mokutil --import %s, reboot, and confirm at the console\nthen sign: vouchsafe module sign --key keyring:%s FILE.ko\n",
				"在每台机器上导入：mokutil --import %s，重启并在控制台确认\n然后签名：vouchsafe module sign --key keyring:%s 文件.ko\n"), enrol, state)
			return nil
		},
	}
	host, _ := os.Hostname()
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&in.Name, "name", host, "whose CA it is: the console shows it at enrolment")
	cmd.Flags().StringVar(&in.Kind, "kind", "rsa-3072", "rsa-2048, rsa-3072, rsa-4096, or p384 (only for kernels with ECDSA built in, not Debian 12's 6.1)")
	cmd.Flags().StringVar(&enrol, "enrol", "", "write the CA's certificate there, in DER: what mokutil --import takes")
	return cmd
}

func isKind(kind string) bool {
	for _, k := range modkeys.Kinds {
		if k == kind {
			return true
		}
	}
	return false
}

func newModuleKeyRotateCommand(a *app) *cobra.Command {
	var state string
	var in api.RotateModuleKey
	cmd := &cobra.Command{
		Use:   "rotate [--if-due] [--kind KIND]",
		Short: "Make the next signing key",
		Long: `Make the next signing key. The private key before it is destroyed, its
certificate kept. What it has signed goes on loading: the signature holds the
certificate, the machines know the CA, and kernels look at no dates.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.Kind != "" && !isKind(in.Kind) {
				return usageError{fmt.Errorf("--kind %s is none of %s", in.Kind, strings.Join(modkeys.Kinds, ", "))}
			}
			s, err := openKeyService(cmd.Context(), state)
			if err != nil {
				return err
			}
			defer s.close()
			got, err := s.rotate(cmd.Context(), in)
			if err != nil {
				return err
			}
			if a.json {
				return a.printModuleKeys(got)
			}
			leaf, err := parseCertificate([]byte(got.Leaf))
			if err != nil {
				return err
			}
			words := a.say("not due: the signing key is good until %s\n", "尚未到期：签名密钥有效期至 %s\n")
			if got.Rotated {
				words = a.say("made a new signing key, good until %s; nothing needs to be enrolled\n", "已生成新的签名密钥，有效期至 %s；无需重新导入\n")
			}
			fmt.Fprintf(a.err, words, leaf.NotAfter.Format(time.DateOnly))
			return nil
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&in.Kind, "kind", "", "kind of the new key (default: as the one before)")
	cmd.Flags().BoolVar(&in.IfDue, "if-due", false, "only when less than a third of its time is left: for a timer")
	return cmd
}

func newModuleKeyShowCommand(a *app) *cobra.Command {
	var state, enrol string
	cmd := &cobra.Command{
		Use:   "show [--enrol FILE]",
		Short: "Show the CA and the signing key; write the file to enrol",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openKeyService(cmd.Context(), state)
			if err != nil {
				return err
			}
			defer s.close()
			got, err := s.show(cmd.Context())
			if err != nil {
				return err
			}
			if err := writeEnrolment(got, enrol); err != nil {
				return err
			}
			return a.printModuleKeys(got)
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&enrol, "enrol", "", "write the CA's certificate there, in DER: what mokutil --import takes")
	return cmd
}

func writeEnrolment(k api.ModuleKeys, path string) error {
	if path == "" {
		return nil
	}
	ca, err := parseCertificate([]byte(k.CA))
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, ca.Raw, 0o644); err != nil {
		return fmt.Errorf("writing the file to enrol: %w", err)
	}
	return nil
}

// keyState is what module key prints. Its JSON form is stable.
type keyState struct {
	CA       keyCert           `json:"ca"`
	Leaf     keyCert           `json:"leaf"`
	Retired  int               `json:"retired"`
	Rotated  bool              `json:"rotated,omitempty"`
	Findings []finding.Finding `json:"findings"`
}

type keyCert struct {
	Name     string    `json:"name"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

func certState(c *x509.Certificate) keyCert {
	return keyCert{c.Subject.String(), fmt.Sprintf("%x", c.SerialNumber), c.NotAfter.UTC()}
}

func (a *app) printModuleKeys(k api.ModuleKeys) error {
	ca, err := parseCertificate([]byte(k.CA))
	if err != nil {
		return err
	}
	leaf, err := parseCertificate([]byte(k.Leaf))
	if err != nil {
		return err
	}
	s := keyState{CA: certState(ca), Leaf: certState(leaf), Retired: strings.Count(k.Retired, "BEGIN CERTIFICATE"), Rotated: k.Rotated, Findings: []finding.Finding{}}
	now, day := time.Now(), s.Leaf.NotAfter.Format(time.DateOnly)
	if now.After(s.Leaf.NotAfter) {
		s.Findings = append(s.Findings, modsig.Findings.New("MODULE_SIGNER_EXPIRED", s.Leaf.Name, "valid until "+day, day).In(a.dataLang()))
	} else if now.After(s.Leaf.NotAfter.Add(-modsig.LeafLifetime / 10)) {
		s.Findings = append(s.Findings, modsig.Findings.New("MODULE_KEY_ROTATION_DUE", s.Leaf.Name, "valid until "+day, day).In(a.dataLang()))
	}
	if a.json {
		if err := a.printJSON(s); err != nil {
			return err
		}
	} else {
		line := func(what string, c keyCert) {
			fmt.Fprintf(a.out, "%s%s, %s %s, %s %s\n", what, c.Name, a.say("serial", "序列号"), c.Serial, a.say("until", "有效期至"), c.NotAfter.Format(time.DateOnly))
		}
		line(a.say("CA: ", "CA："), s.CA)
		line(a.say("signing key: ", "签名密钥："), s.Leaf)
		fmt.Fprintf(a.out, a.say("former signing keys: %d\n", "以前的签名密钥：%d\n"), s.Retired)
		for _, f := range s.Findings {
			fmt.Fprintf(a.err, "%s%s\n  %s\n  %s%s\n", a.coded(f), a.words(f.Evidence), f.Meaning, a.say("remedy: ", "处理："), f.Remedy)
		}
	}
	return worst(s.Findings)
}
