package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// What a directory of module keys holds; docs/formats/module-signature.md.
const (
	caKeyFile    = "ca.key"
	caCertFile   = "ca.der" // DER: what mokutil --import takes
	leafKeyFile  = "leaf.pem"
	leafCertFile = "leaf.pem" // key and certificate in one file, so that both change in one step
	retiredDir   = "retired"
)

const defaultModuleKeys = "/var/lib/vouchsafe/modules"

func newModuleKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "A CA for modules alone, and the signing keys under it",
		Long: `A CA for modules alone, and the signing keys under it.

The CA's certificate is enrolled once on every machine (mokutil --import
DIR/ca.der, reboot, confirm). Signing is done with a leaf key that lives half a
year; rotate makes the next one, and nothing needs to be enrolled again. Every
use of a key is written to DIR/signing.log before it happens.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModuleKeyInitCommand(a), newModuleKeyRotateCommand(a), newModuleKeyShowCommand(a))
	return cmd
}

// keyDir is a directory of module keys.
type keyDir string

func (d keyDir) file(name string) string { return filepath.Join(string(d), name) }

func (d keyDir) log() *signingLog { return &signingLog{d.file(signingLogFile)} }

func newModuleKeyInitCommand(a *app) *cobra.Command {
	var dir, name, kind string
	cmd := &cobra.Command{
		Use:   "init [--dir DIR] [--name NAME] [--kind KIND]",
		Short: "Make a CA and its first signing key",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			return keyDir(dir).init(a, name, kind)
		},
	}
	host, _ := os.Hostname()
	cmd.Flags().StringVar(&dir, "dir", defaultModuleKeys, "where the keys are kept")
	cmd.Flags().StringVar(&name, "name", host, "whose CA it is: the console shows it at enrolment")
	cmd.Flags().StringVar(&kind, "kind", "rsa-3072", "rsa-2048, rsa-3072, rsa-4096, or p384 (only for kernels with ECDSA built in, not Debian 12's 6.1)")
	return cmd
}

func (d keyDir) init(a *app, name, kind string) error {
	if exists(d.file(caKeyFile)) || exists(d.file(caCertFile)) {
		return withHint(fmt.Errorf("there is a CA in %s already", d), "%s",
			a.say("a new one would have to be enrolled on every machine; vouchsafe module key rotate makes a new signing key",
				"新的 CA 需要在每台机器上重新导入；vouchsafe module key rotate 可生成新的签名密钥"))
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("making the key directory: %w", err)
	}
	now := time.Now()
	key, err := newModuleKey(kind)
	if err != nil {
		return err
	}
	ca, err := modsig.NewCA(name+" module CA", key, now)
	if err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	if err := d.log().record(signingEntry{Time: now.UTC(), Event: "create", Serial: fmt.Sprintf("%x", ca.SerialNumber), Name: ca.Subject.String()}); err != nil {
		return err
	}
	block, err := keyPEM(key)
	if err != nil {
		return err
	}
	if err := writeNew(d.file(caKeyFile), block, 0o600); err != nil {
		return err
	}
	if err := writeNew(d.file(caCertFile), ca.Raw, 0o644); err != nil {
		return err
	}
	if err := d.issue(ca, key, kind, now); err != nil {
		return err
	}
	if a.json {
		return d.printState(a)
	}
	fmt.Fprintf(a.err, a.say(`made a CA for modules, valid until %[1]s, and a signing key under it, in %[2]s
enrol the CA on every machine: mokutil --import %[3]s, reboot, and confirm at the console
then sign: vouchsafe module sign --key %[2]s FILE.ko
keep %[4]s somewhere else: it is needed again only to rotate
`, `已在 %[2]s 生成模块专用 CA（有效期至 %[1]s）及其下的签名密钥
在每台机器上导入 CA：mokutil --import %[3]s，重启并在控制台确认
然后签名：vouchsafe module sign --key %[2]s 文件.ko
请把 %[4]s 存放到别处：只有轮换时才再次需要
`), ca.NotAfter.Format(time.DateOnly), string(d), d.file(caCertFile), d.file(caKeyFile))
	return nil
}

func newModuleKeyRotateCommand(a *app) *cobra.Command {
	var dir, caKey, kind string
	var ifDue bool
	cmd := &cobra.Command{
		Use:   "rotate [--dir DIR] [--ca-key FILE] [--if-due]",
		Short: "Make the next signing key",
		Long: `Make the next signing key. The old one is overwritten, its certificate is
kept under DIR/retired. What it has signed goes on loading: the signature holds
its certificate, the machines know the CA, and kernels look at no dates.`,
		Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			d := keyDir(dir)
			if caKey == "" {
				caKey = d.file(caKeyFile)
			}
			return d.rotate(a, caKey, kind, ifDue)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultModuleKeys, "where the keys are kept")
	cmd.Flags().StringVar(&caKey, "ca-key", "", "the CA's key, when it is kept elsewhere (default DIR/ca.key)")
	cmd.Flags().StringVar(&kind, "kind", "", "kind of the new key (default: as the CA's)")
	cmd.Flags().BoolVar(&ifDue, "if-due", false, "only when less than a third of its time is left: for a timer")
	return cmd
}

func (d keyDir) rotate(a *app, caKeyPath, kind string, ifDue bool) error {
	ca, err := d.ca(a)
	if err != nil {
		return err
	}
	now := time.Now()
	old, err := readCertificates(d.file(leafCertFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the signing key's certificate: %w", err)
	}
	if len(old) > 0 && ifDue && now.Before(old[0].NotAfter.Add(-modsig.LeafLifetime/3)) {
		fmt.Fprintf(a.err, a.say("not due: the signing key is good until %s\n", "尚未到期：签名密钥有效期至 %s\n"), old[0].NotAfter.Format(time.DateOnly))
		return nil
	}
	key, end, err := readModuleKey(a, caKeyPath)
	if err != nil {
		return withHint(err, "%s", a.say("the CA's key makes the certificate: name it with --ca-key", "签发证书需要 CA 密钥：请用 --ca-key 指定"))
	}
	defer end()
	if kind == "" {
		kind = kindOf(key)
	}
	if len(old) > 0 {
		if err := os.MkdirAll(d.file(retiredDir), 0o700); err != nil {
			return fmt.Errorf("keeping the old certificate: %w", err)
		}
		path := filepath.Join(d.file(retiredDir), fmt.Sprintf("leaf-%x.der", old[0].SerialNumber))
		if err := writeNew(path, old[0].Raw, 0o644); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := d.issue(ca, key, kind, now); err != nil {
		return err
	}
	if a.json {
		return d.printState(a)
	}
	fmt.Fprintf(a.err, a.say("made a new signing key under %s; nothing needs to be enrolled\n", "已在 %s 下生成新的签名密钥；无需重新导入\n"), ca.Subject)
	return nil
}

// issue makes a key and its certificate and puts both in place in one step.
func (d keyDir) issue(ca *x509.Certificate, caKey crypto.Signer, kind string, now time.Time) error {
	key, err := newModuleKey(kind)
	if err != nil {
		return err
	}
	leaf, err := modsig.NewLeaf("module signing key "+now.UTC().Format(time.DateOnly), key.Public(), ca, caKey, now)
	if err != nil {
		return fmt.Errorf("issuing the signing key's certificate: %w", err)
	}
	if err := d.log().record(signingEntry{Time: now.UTC(), Event: "issue", Serial: fmt.Sprintf("%x", leaf.SerialNumber), Name: leaf.Subject.String()}); err != nil {
		return err
	}
	block, err := keyPEM(key)
	if err != nil {
		return err
	}
	defer clear(block)
	both := append(block, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})...)
	defer clear(both)
	next := d.file(leafKeyFile) + ".new"
	_ = os.Remove(next) // what a crash left
	if err := writeNew(next, both, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, d.file(leafKeyFile)); err != nil {
		return fmt.Errorf("putting the new signing key in place: %w", err)
	}
	return syncDir(string(d))
}

func (d keyDir) ca(a *app) (*x509.Certificate, error) {
	certs, err := readCertificates(d.file(caCertFile))
	if err != nil {
		return nil, withHint(fmt.Errorf("reading the CA: %w", err), "vouchsafe module key init --dir %s", d)
	}
	return certs[0], nil
}

func newModuleKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, usageError{fmt.Errorf("--kind %s is none of rsa-2048, rsa-3072, rsa-4096, p384", kind)}
}

func kindOf(key crypto.Signer) string {
	if r, ok := key.(*rsa.PrivateKey); ok {
		return fmt.Sprintf("rsa-%d", r.N.BitLen())
	}
	return "p384"
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writeNew writes a file that must not be there, down to the disk.
func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
