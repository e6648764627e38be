package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/internal/tpmkey"
)

// moduleSigner is a key with its certificate, and where its uses are written down.
type moduleSigner struct {
	key   crypto.Signer
	cert  *x509.Certificate
	chain []*x509.Certificate // what follows the certificate in its file
	uses  *useRecord          // nil: nobody writes them down
	end   func()              // when the key is no longer needed
}

// loadModuleSigner opens --key and reads --cert. state is a service's state
// directory whose audit log gets every use of a key that is not in its keyring.
func loadModuleSigner(ctx context.Context, a *app, name, certPath, state string) (*moduleSigner, error) {
	name, err := referenced(name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "keyring:") {
		return openKeyring(ctx, name) // which has the certificate, too
	}
	s, err := openModuleSigner(ctx, a, name, certPath)
	if err != nil || state == "" {
		return s, err
	}
	keys, err := openKeyService(ctx, state)
	if err != nil {
		s.end()
		return nil, fmt.Errorf("opening the audit log for the key's uses: %w", err)
	}
	s.uses = &useRecord{ctx: ctx, keys: keys}
	end := s.end
	s.end = func() { end(); keys.close() }
	return s, nil
}

// keyPrefixes are the names of keys that are no files.
var keyPrefixes = []string{"keyring:", "pkcs11:", "tpm:"}

func keyElsewhere(name string) bool {
	return slices.ContainsFunc(keyPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// referenced reads a file that holds the name of a key instead of one: dkms
// wants a file.
func referenced(name string) (string, error) {
	if keyElsewhere(name) {
		return name, nil
	}
	st, err := os.Stat(name)
	if err != nil || !st.Mode().IsRegular() || st.Size() > 4096 {
		return name, nil // whoever opens it says what is wrong
	}
	b, err := readBounded(name, 4096)
	if err != nil {
		return name, nil
	}
	defer clear(b)
	if first, rest, _ := strings.Cut(strings.TrimSpace(string(b)), "\n"); rest == "" && keyElsewhere(first) {
		return first, nil
	}
	return name, nil
}

func openModuleSigner(ctx context.Context, a *app, name, certPath string) (*moduleSigner, error) {
	if certPath == "" {
		if keyElsewhere(name) {
			return nil, usageError{errors.New("--cert is needed: a key in a token or a TPM has its certificate in a file")}
		}
		certPath = name // both in one PEM, as the kernel's build has them
	}
	certs, err := readCertificates(certPath)
	if err != nil && keyElsewhere(name) {
		return nil, err
	}
	s := &moduleSigner{end: func() {}}
	switch {
	case strings.HasPrefix(name, "pkcs11:"):
		s.key, s.end, err = openPKCS11(ctx, a, name, certs[0].PublicKey)
	case strings.HasPrefix(name, "tpm:"):
		s.key, s.end, err = openTPMKey(a, name)
	default:
		s.key, s.end, err = readModuleKey(a, name)
	}
	if err != nil {
		return nil, err
	}
	if certs == nil {
		if certs, err = readCertificates(certPath); err != nil {
			s.end()
			return nil, withHint(err, "%s", a.say("name the key's certificate with --cert", "请用 --cert 指定该密钥的证书"))
		}
	}
	s.cert, s.chain = certs[0], certs[1:]
	return s, nil
}

// readModuleKey reads a private key in PEM, which nobody else may be able to read.
// A TSS2 PRIVATE KEY is one in a TPM.
func readModuleKey(a *app, path string) (crypto.Signer, func(), error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, nil, withHint(fmt.Errorf("the key %s can be read by others (mode %04o)", path, st.Mode().Perm()),
			a.say("chmod 600 %s; whoever has read it can sign modules for every machine that trusts it", "chmod 600 %s；读到它的人可以为所有信任它的机器签名模块"), path)
	}
	b, err := readBounded(path, 1<<20)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the key: %w", err)
	}
	defer clear(b)
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, nil, withHint(fmt.Errorf("reading the key %s: no private key in PEM", path), "%s",
				a.say("openssl pkey -in FILE -out key.pem turns other forms into PEM", "openssl pkey -in 文件 -out key.pem 可将其他格式转换为 PEM"))
		}
		defer clear(block.Bytes)
		var key any
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, nil, withHint(fmt.Errorf("the key %s is encrypted with a passphrase", path), "%s",
				a.say("openssl pkey -in FILE -out key.pem, then chmod 600 key.pem", "openssl pkey -in 文件 -out key.pem，然后 chmod 600 key.pem"))
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == tpmkey.PEMType:
			return openTPMKey(a, "tpm:"+path)
		default:
			continue
		}
		if err != nil {
			// The parser's words may quote the file: they are left out.
			return nil, nil, fmt.Errorf("reading the key %s: not a %s", path, block.Type)
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, func() {}, nil
		case *ecdsa.PrivateKey:
			return key, func() {}, nil
		}
		return nil, nil, withHint(fmt.Errorf("the key %s is of a kind that the kernel does not take", path), "%s",
			a.say("use RSA, or ECDSA on P-256 or P-384", "请使用 RSA，或 P-256、P-384 上的 ECDSA"))
	}
}

// embed chooses the certificates that a signature carries: the leaf and what
// stands between it and the root, or none for a key that is enrolled itself.
func (s *moduleSigner) embed(always bool) (out []*x509.Certificate) {
	if selfIssued(s.cert) && !always {
		return nil
	}
	for _, c := range append([]*x509.Certificate{s.cert}, s.chain...) {
		if !selfIssued(c) || c == s.cert {
			out = append(out, c)
		}
	}
	return out
}

func selfIssued(c *x509.Certificate) bool { return string(c.RawSubject) == string(c.RawIssuer) }
