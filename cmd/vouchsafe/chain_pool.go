package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
)

func newChainPoolCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Keep intermediates at hand, so that chains are mended offline",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "import FILE|URL",
		Short: "Take the intermediates of a PEM bundle or of CCADB's CSV reports",
		Long: `Takes every CA certificate that is not self-signed out of a PEM bundle, a
PKCS #7 bundle or a CSV report with PEM in it (CCADB), and keeps them as one
file in $XDG_DATA_HOME/vouchsafe/pool (~/.local/share/vouchsafe/pool). Checks
and repairs use it from then on. Trust comes only from --roots.`,
		Example: "  vouchsafe chain pool import int-bundle.pem\n  vouchsafe chain pool import AllCertificatePEMsCSVFormat_NotBeforeYear_2024.csv",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importPool(cmd.Context(), args[0])
		},
	}, &cobra.Command{
		Use:   "show",
		Short: "Say what is in the pool, and where it is",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, err := poolDir()
			if err != nil {
				return err
			}
			certs, err := readCerts(dir)
			if errors.Is(err, os.ErrNotExist) {
				certs, err = nil, nil
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"directory": dir, "certificates": len(certs)})
			}
			_, err = fmt.Fprintf(a.out, "%s: %s\n", dir, a.count(len(certs), "intermediate", "个中间证书"))
			return err
		},
	})
	return cmd
}

func (a *app) importPool(ctx context.Context, from string) error {
	data, err := a.readPoolSource(ctx, from)
	if err != nil {
		return err
	}
	if len(data) > chain.MaxBundle {
		return fmt.Errorf("importing %s: it is longer than %d bytes", from, chain.MaxBundle)
	}
	var keep []*chain.Cert
	all := chain.ReadBundle(data)
	now := time.Now()
	expired := 0
	for _, c := range chain.NewPool(all).Certs() {
		switch {
		case c.SelfIssued() || !c.X.IsCA:
		case c.X.NotAfter.Before(now):
			expired++ // it mends nothing any more
		default:
			keep = append(keep, c)
		}
	}
	if len(keep) == 0 {
		return withHint(fmt.Errorf("importing %s: no intermediate in it (certificates: %d)", from, len(all)), "it must hold CA certificates as PEM, as CCADB's AllCertificatePEMs reports do")
	}
	dir, err := poolDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The name says where it came from, so that importing again replaces it.
	sum := sha256.Sum256([]byte(from))
	file := filepath.Join(dir, fmt.Sprintf("%s-%x.pem", safeName(filepath.Base(from)), sum[:4]))
	if err := writeAtomic(file, chain.Encode(keep), 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"file": file, "imported": len(keep), "read": len(all), "expired": expired})
	}
	_, err = fmt.Fprintf(a.out, a.say("%s: %s of %s; %d had expired\n", "%s：从 %[3]s 中导入 %[2]s；%[4]d 个已过期\n"), file, a.count(len(keep), "intermediate", "个中间证书"), a.count(len(all), "certificate", "个证书"), expired)
	return err
}

// readPoolSource reads a file or an address. HTTPS is verified by the system's
// roots: whoever fills the pool may at most offer useless certificates, but a
// list of what we look for is nobody's business.
func (a *app) readPoolSource(ctx context.Context, from string) ([]byte, error) {
	if !strings.HasPrefix(from, "https://") && !strings.HasPrefix(from, "http://") {
		return readUpTo(from, chain.MaxBundle)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("fetching %s: %w", from, err), "download it with a browser and import the file")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching %s: the server says %s", from, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, chain.MaxBundle+1))
}

func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s[:min(len(s), 60)])
}
