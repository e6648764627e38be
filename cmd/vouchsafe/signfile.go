package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// newSignFileCommand takes the arguments of the kernel's scripts/sign-file, so
// that kbuild and dkms can call it instead.
func newSignFileCommand(a *app) *cobra.Command {
	var detached, keep, byKeyID bool
	var raw string
	cmd := &cobra.Command{
		Use:   "sign-file [-dpk] HASH KEY CERT MODULE [DEST]",
		Short: "Sign one module, with the arguments of the kernel's sign-file",
		Long: `Sign one module, with the arguments of the kernel's sign-file.

The result is the same, byte for byte, for an RSA key whose certificate is
self-signed. A certificate that a CA has issued is embedded, which sign-file
cannot do: then only the CA needs to be enrolled, and the keys under it can be
changed. A signature that is there is replaced.

KEY may also be keyring: (the service's key, whose certificate then counts, not
CERT), pkcs11:… or tpm:…, or a file that holds such a name; see module sign.

  sign-file -s RAWSIG HASH CERT MODULE [DEST]
appends a CMS signature that was made elsewhere.`,
		Example: `  vouchsafe sign-file sha256 mok.key mok.der nvidia.ko
  vouchsafe sign-file sha256 keyring: - nvidia.ko
  sign_file=/usr/lib/vouchsafe/sign-file   # for dkms, see deploy/dkms`,
		Args: rangeArgs(3, 5),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw != "" {
				return appendRaw(raw, args[1:])
			}
			if len(args) < 4 {
				return usageError{errors.New("HASH KEY CERT MODULE are needed")}
			}
			h := modsig.HashByName(args[0])
			if h == 0 {
				return usageError{fmt.Errorf("hash %s is not known: sha256, sha384 or sha512", args[0])}
			}
			s, err := loadModuleSigner(cmd.Context(), a, args[1], args[2], os.Getenv("VOUCHSAFE_STATE"))
			if err != nil {
				return err
			}
			defer s.end()
			return s.signFile(a, args[3:], modsig.SignOptions{Hash: h, Embed: s.embed(false), ByKeyID: byKeyID}, detached, keep)
		},
	}
	cmd.Flags().BoolVarP(&detached, "detached", "d", false, "only write the signature, to MODULE.p7s")
	cmd.Flags().BoolVarP(&keep, "keep", "p", false, "write the signature to MODULE.p7s as well")
	cmd.Flags().BoolVarP(&byKeyID, "key-id", "k", false, "name the signer by its subject key identifier")
	cmd.Flags().StringVarP(&raw, "signature", "s", "", "append this CMS signature instead of making one")
	return cmd
}

// signFile signs paths[0] to paths[1], or in place.
func (s *moduleSigner) signFile(a *app, paths []string, o modsig.SignOptions, detached, keep bool) error {
	module, dest := paths[0], paths[0]
	if len(paths) > 1 {
		dest = paths[1]
	}
	file, err := readBounded(module, modsig.MaxModule)
	if err != nil {
		return fmt.Errorf("reading the module: %w", err)
	}
	content, replaced := withoutSignature(file)
	if replaced {
		fmt.Fprintf(a.err, a.say("%s: the signature that was there is replaced\n", "%s：原有签名已替换\n"), module)
	}
	if o.ByKeyID && len(o.Embed) > 0 {
		return usageError{errors.New("-k names the signer by key identifier, by which no kernel finds an embedded certificate: leave -k out")}
	}
	signed, err := s.sign(module, content, o)
	if err != nil {
		return fmt.Errorf("signing %s: %w", module, err)
	}
	if detached || keep {
		p7s := module + ".p7s"
		if err := os.WriteFile(p7s, modsig.Split(signed).Signature, 0o644); err != nil {
			return fmt.Errorf("writing the signature: %w", err)
		}
	}
	if detached {
		return nil
	}
	if err := replaceFile(dest, module, signed); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Clean(dest), err)
	}
	return nil
}

// appendRaw appends a signature made elsewhere: CERT MODULE [DEST].
func appendRaw(raw string, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return usageError{errors.New("-s RAWSIG wants HASH CERT MODULE [DEST]")}
	}
	cms, err := readBounded(raw, modsig.MaxSignature)
	if err != nil {
		return fmt.Errorf("reading the signature: %w", err)
	}
	if _, err := modsig.ParseCMS(cms); err != nil {
		return fmt.Errorf("the signature %s is not one for a module: %w", raw, err)
	}
	module, dest := args[1], args[1]
	if len(args) == 3 {
		dest = args[2]
	}
	file, err := readBounded(module, modsig.MaxModule)
	if err != nil {
		return fmt.Errorf("reading the module: %w", err)
	}
	content, _ := withoutSignature(file)
	signed, err := modsig.Append(content, cms)
	if err != nil {
		return err
	}
	if err := replaceFile(dest, module, signed); err != nil {
		return fmt.Errorf("writing %s: %w", dest, err)
	}
	return nil
}
