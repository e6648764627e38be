package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// keyState is what module key show prints. Its JSON form is stable.
type keyState struct {
	Dir      string            `json:"dir"`
	CA       keyCert           `json:"ca"`
	Leaf     *keyCert          `json:"leaf"`
	CAKey    bool              `json:"ca_key_here"`
	Retired  int               `json:"retired"`
	Uses     int               `json:"log_entries"`
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

func newModuleKeyShowCommand(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "show [--dir DIR]",
		Short: "Show the CA, the signing key and whether the log is whole",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			return keyDir(dir).printState(a)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultModuleKeys, "where the keys are kept")
	return cmd
}

func (d keyDir) printState(a *app) error {
	s, err := d.state(a, time.Now())
	if err != nil {
		return err
	}
	return s.print(a)
}

func (d keyDir) state(a *app, now time.Time) (*keyState, error) {
	ca, err := d.ca(a)
	if err != nil {
		return nil, err
	}
	s := &keyState{Dir: string(d), CA: certState(ca), CAKey: exists(d.file(caKeyFile)), Findings: []finding.Finding{}}
	note := func(f finding.Finding) { s.Findings = append(s.Findings, f.In(a.lang())) }
	leaf, err := readCertificates(d.file(leafCertFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the signing key: %w", err)
	default:
		c := certState(leaf[0])
		s.Leaf = &c
		if day := c.NotAfter.Format(time.DateOnly); now.After(c.NotAfter) {
			note(modsig.Findings.New("MODULE_SIGNER_EXPIRED", c.Name, "valid until "+day, day))
		} else if now.After(c.NotAfter.Add(-modsig.LeafLifetime / 10)) {
			note(modsig.Findings.New("MODULE_KEY_ROTATION_DUE", c.Name, "valid until "+day, day))
		}
		if st, err := os.Stat(d.file(leafKeyFile)); err == nil && st.Mode().Perm()&0o077 != 0 {
			note(modsig.Findings.New("MODULE_KEY_EXPOSED", d.file(leafKeyFile), fmt.Sprintf("mode %04o", st.Mode().Perm()), d.file(leafKeyFile)))
		}
	}
	retired, _ := filepath.Glob(filepath.Join(d.file(retiredDir), "*.der"))
	s.Retired = len(retired)
	if s.Uses, err = d.log().check(); err != nil {
		note(modsig.Findings.New("MODULE_KEY_LOG_BROKEN", d.file(signingLogFile), err.Error()))
	}
	return s, nil
}

func (s *keyState) print(a *app) error {
	if a.json {
		if err := a.printJSON(s); err != nil {
			return err
		}
	} else {
		line := func(what string, c keyCert) {
			fmt.Fprintf(a.out, "%s %s, %s %s, %s %s\n", what, c.Name, a.say("serial", "序列号"), c.Serial, a.say("until", "有效期至"), c.NotAfter.Format(time.DateOnly))
		}
		line(a.say("CA:", "CA："), s.CA)
		if s.Leaf != nil {
			line(a.say("signing key:", "签名密钥："), *s.Leaf)
		}
		fmt.Fprintf(a.out, a.say("retired keys: %d, log entries: %d, CA key kept here: %t\n", "已退役密钥：%d，日志条目：%d，CA 密钥在此：%t\n"), s.Retired, s.Uses, s.CAKey)
		for _, f := range s.Findings {
			fmt.Fprintf(a.err, "%s %s: %s\n  %s\n  %s %s\n", f.Severity, f.Code, f.Evidence, f.Meaning, a.say("remedy:", "办法："), f.Remedy)
		}
	}
	if w := finding.Worst(s.Findings); w == finding.Error || w == finding.Warning {
		return errFindings
	}
	return nil
}
