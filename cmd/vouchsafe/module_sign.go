package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func newModuleSignCommand(a *app) *cobra.Command {
	var key, cert, hash, state string
	var chain bool
	cmd := &cobra.Command{
		Use:   "sign --key KEY [--cert CERT] [--chain] FILE...",
		Short: "Sign modules in place",
		Long: `Sign modules in place. A signature that is there is replaced.

The file is written anew beside the old one and takes its place in one step,
with its mode and owner; other hard links go on pointing to the old one.
Compressed modules (.ko.xz, .ko.gz, .ko.zst) are signed inside and compressed
as before. A certificate that another one has issued is embedded, without which
a kernel that knows only the CA does not find it; --chain=false leaves it out,
--chain embeds a self-signed one too.

KEY is keyring: for the signing key of the service in the state directory
(module key init), or keyring:DIR; a file in PEM; a key behind PKCS#11
(pkcs11:token=…;object=…, RFC 7512); or one in a TPM: tpm:0x81000001 or tpm:FILE with a TSS2 PRIVATE KEY, in /dev/tpmrm0
or ?device=unix:PATH|tcp:HOST:PORT|/dev/…. A PIN or password comes from
?pin-source=file:PATH, $VOUCHSAFE_PIN_FILE, $KBUILD_SIGN_PIN or the terminal.`,
		Example: `  vouchsafe module sign --key keyring: nvidia.ko
  vouchsafe module sign --key mok.key --cert mok.der nvidia.ko
  vouchsafe module sign --key 'pkcs11:token=hsm;object=kmod?pin-source=file:/etc/kmod.pin' --cert mok.der nvidia.ko
  vouchsafe module sign --key tpm:0x81000010 --cert mok.der nvidia.ko`,
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usageError{errors.New("--key is needed")}
			}
			s, err := loadModuleSigner(cmd.Context(), a, key, cert, orEnvironment(state))
			if err != nil {
				return err
			}
			defer s.end()
			h := modsig.HashByName(hash)
			if h == 0 {
				return usageError{fmt.Errorf("--hash %s is not known: sha256, sha384 or sha512", hash)}
			}
			o := modsig.SignOptions{Hash: h, Embed: s.embed(chain)}
			if cmd.Flags().Changed("chain") && !chain {
				o.Embed = nil
			}
			files, err := moduleFiles(args)
			if err != nil {
				return fmt.Errorf("looking for modules: %w", err)
			}
			for _, f := range files {
				if err := cmd.Context().Err(); err != nil {
					return err
				}
				if err := s.signInPlace(a, f, o); errors.Is(err, fs.ErrPermission) {
					return withHint(fmt.Errorf("signing %s: %w", f, err), "%s", a.say("the directory must be writable: the file is written anew beside the old one, which then keeps its other hard links", "目录必须可写：新文件写在旧文件旁边并替换它；旧文件的其他硬链接保持不变"))
				} else if err != nil {
					return fmt.Errorf("signing %s: %w", f, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key: keyring:, a PEM file of mode 0600, pkcs11:… or tpm:…; or a file that holds such a name")
	cmd.Flags().StringVar(&state, "state", "", "state directory of a service whose audit log gets every use of a key that is not in its keyring (default $VOUCHSAFE_STATE, else none)")
	cmd.Flags().StringVar(&cert, "cert", "", "its certificate, PEM or DER; certificates behind it are its chain")
	cmd.Flags().StringVar(&hash, "hash", "sha256", "hash over the module: sha256 is in every kernel; sha384, sha512")
	cmd.Flags().BoolVar(&chain, "chain", false, "embed the certificates (default: when another certificate has issued it)")
	return cmd
}

// orEnvironment is the state directory that was asked for, or none: other than
// for the service's own commands there is no default.
func orEnvironment(state string) string {
	if state == "" {
		return os.Getenv("VOUCHSAFE_STATE")
	}
	return state
}

// signedModule is one line of module sign --json. Its form is stable.
type signedModule struct {
	File     string `json:"file"`
	Signer   string `json:"signer"`
	Serial   string `json:"serial"`
	Hash     string `json:"hash"`
	Embedded bool   `json:"embedded"`
	Replaced bool   `json:"replaced"` // there was a signature before
}

// signInPlace signs one module and replaces it in one step.
func (s *moduleSigner) signInPlace(a *app, path string, o modsig.SignOptions) error {
	stored, err := readBounded(path, modsig.MaxModule)
	if err != nil {
		return err
	}
	plain, err := modsig.Decompress(stored, nil)
	if err != nil {
		return err
	}
	content, replaced := withoutSignature(plain)
	if _, err := modsig.ReadELF(content); err != nil {
		return withHint(fmt.Errorf("not a kernel module: %w", err), "%s", a.say("is it the right file?", "文件是否正确？"))
	}
	signed, err := s.sign(path, content, o)
	if err != nil {
		return err
	}
	out, err := modsig.Compress(signed, modsig.CompressionOf(stored))
	if err != nil {
		return err
	}
	if err := replaceFile(path, path, out); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(signedModule{path, s.cert.Subject.String(), fmt.Sprintf("%x", s.cert.SerialNumber), modsig.HashName(o.Hash), len(o.Embed) > 0, replaced})
	}
	words := a.say("%s: signed by %s\n", "%s：已由 %s 签名\n")
	if replaced {
		words = a.say("%s: signed by %s; the signature that was there is gone\n", "%s：已由 %s 签名；原有签名已替换\n")
	}
	fmt.Fprintf(a.err, words, path, s.cert.Subject)
	return nil
}

// withoutSignature cuts every signature off, for a module may be signed twice.
func withoutSignature(file []byte) (content []byte, replaced bool) {
	for {
		a := modsig.Split(file)
		if a.Signature == nil {
			return file, replaced
		}
		file, replaced = a.Content, true
	}
}

// sign records the use, then signs.
func (s *moduleSigner) sign(path string, content []byte, o modsig.SignOptions) ([]byte, error) {
	if s.uses != nil {
		if err := s.uses.about(path); err != nil {
			return nil, err
		}
		if s.uses.leaf == nil {
			w := o.Hash.New()
			w.Write(content)
			if err := s.uses.write(s.cert, w.Sum(nil), o.Hash); err != nil {
				return nil, err
			}
		}
	}
	signed, err := modsig.Sign(content, s.key, s.cert, o)
	if err != nil {
		return nil, err
	}
	return signed, s.check(signed, o)
}

// check verifies what a key made that may be in somebody else's hardware.
func (s *moduleSigner) check(signed []byte, o modsig.SignOptions) error {
	a := modsig.Split(signed)
	m, err := modsig.ParseCMS(a.Signature)
	if err != nil {
		return err
	}
	w := o.Hash.New()
	w.Write(a.Content)
	if m.SignedBy(o.Hash, w.Sum(nil), []*x509.Certificate{s.cert}) == nil {
		return fmt.Errorf("the key made a signature that the certificate of %s does not verify", s.cert.Subject)
	}
	return nil
}

// replaceFile writes b to path by way of a new file in the same directory,
// with the mode and owner of like.
func replaceFile(path, like string, b []byte) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link goes on pointing to the file
	}
	st, err := os.Stat(like)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Chmod(st.Mode().Perm()); err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		// Only root can give a file away; another owner keeps what is possible.
		if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
