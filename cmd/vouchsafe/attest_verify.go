package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// maxToken bounds a file with a signed result.
const maxToken = 64 << 10

func newAttestVerifyCommand(a *app) *cobra.Command {
	var state, caFile string
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use:   "verify FILE [--ca ca.pem]",
		Short: "Verify a signed result without the service: a relying party's side",
		Long: `Verify an attestation result that a VM or "attest show --jwt" handed on: a JWT (EAT) with ES384, against
the service's root certificate alone. It says who found what about which VM and when; how old it may be
is yours to say. The exit code is 0 when the result was affirming, 3 when it was not.`,
		Example: `  vouchsafe attest show web1 --jwt > web1.jwt
  vouchsafe attest verify web1.jwt --ca ca.pem --max-age 1h`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			root, err := relyingRoot(state, caFile)
			if err != nil {
				return err
			}
			text, err := a.readAtMost(args[0], maxToken)
			if err != nil {
				return err
			}
			now := time.Now()
			r, err := verifier.VerifyResult(strings.TrimSpace(string(text)), root, now)
			if err != nil {
				return withHint(err, "is it the right service's root? --ca FILE")
			}
			age := now.Sub(r.At)
			if maxAge > 0 && age > maxAge {
				return withHint(fmt.Errorf("the result is %s old, more than %s", age.Round(time.Second), maxAge), "ask for a fresh one: vouchsafe-agent attest")
			}
			if a.json {
				if _, err := fmt.Fprintf(a.out, "%s\n", r.Claims); err != nil {
					return err
				}
			} else {
				w := a.table()
				fmt.Fprintf(w, a.say("issuer\t%s\nsubject\t%s\nat\t%s (%s)\nstatus\t%s\n", "签发者\t%s\n主体\t%s\n时间\t%s（%s 前）\n状态\t%s\n"), r.Issuer, r.Subject, r.At.Format(time.RFC3339), age.Round(time.Second), r.Status)
				detail, err := resultOf(api.Attestation{Result: r.Claims})
				if err != nil {
					return err
				}
				if err := a.showResult(w, detail); err != nil {
					return err
				}
			}
			if r.Status != string(attest.Affirming) {
				return errFindings
			}
			return nil
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&caFile, "ca", "", "the service's root certificate in PEM (default: that of the state directory)")
	cmd.Flags().DurationVar(&maxAge, "max-age", 0, "refuse an older one: 10m, 24h (default: any age)")
	return cmd
}

// relyingRoot is the root certificate that a relying party trusts.
func relyingRoot(state, file string) (*x509.Certificate, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		root, err := parseCertificate(text)
		if err != nil {
			return nil, withHint(fmt.Errorf("reading %s: %w", file, err), "--ca FILE, as vouchsafe ca root prints it")
		}
		if !root.IsCA {
			return nil, withHint(fmt.Errorf("%s is no certificate authority's", file), "--ca FILE, as vouchsafe ca root prints it")
		}
		return root, nil
	}
	dir, err := stateDir(state)
	if err != nil {
		return nil, err
	}
	s, err := readService(dir)
	if err != nil {
		return nil, withHint(errors.New("which service's root certificate? there is none here"), "--ca FILE, as vouchsafe ca root prints it")
	}
	return parseCertificate([]byte(s.RootCA))
}
