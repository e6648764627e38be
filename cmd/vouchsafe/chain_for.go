package main

import (
	"crypto/rand"
	"crypto/sha1" // what Windows calls a thumbprint
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/chain"
	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// serverTarget is one server software: what it reads, and how it is told.
type serverTarget struct {
	name   string
	secret bool // what is written holds the private key
	pack   func(x *fixer, r *chain.Report, in, fixed []byte, o chain.Options) ([]byte, error)
	lines  func(x *fixer, out string) string
	// directives and keys name the files in an existing configuration.
	directives, keys *regexp.Regexp
}

var serverTargets = []*serverTarget{
	{
		name: "nginx", pack: asIs,
		lines: func(x *fixer, out string) string {
			return fmt.Sprintf("ssl_certificate     %s;\nssl_certificate_key %s;\n", out, x.keyName())
		},
		directives: regexp.MustCompile(`(?m)^[^#\n]*\bssl_certificate[ \t]+["']?([^;"'\s]+)["']?[ \t]*;`),
		keys:       regexp.MustCompile(`(?m)^[^#\n]*\bssl_certificate_key[ \t]+["']?([^;"'\s]+)["']?[ \t]*;`),
	},
	{
		// Since 2.4.8 SSLCertificateFile takes the intermediates too, and
		// SSLCertificateChainFile is obsolete.
		name: "apache", pack: asIs,
		lines: func(x *fixer, out string) string {
			return fmt.Sprintf("SSLCertificateFile    %s\nSSLCertificateKeyFile %s\n", out, x.keyName())
		},
		directives: regexp.MustCompile(`(?mi)^[ \t]*SSLCertificate(?:Chain)?File[ \t]+"?([^"\s]+)"?`),
		keys:       regexp.MustCompile(`(?mi)^[ \t]*SSLCertificateKeyFile[ \t]+"?([^"\s]+)"?`),
	},
	{
		name: "haproxy", secret: true, pack: withKey,
		lines: func(_ *fixer, out string) string {
			return fmt.Sprintf("bind :443 ssl crt %s\n", out)
		},
		directives: regexp.MustCompile(`(?m)^[ \t]*bind[ \t].*?\bcrt[ \t]+"?([^"\s]+)"?`),
	},
	{
		// Import-PfxCertificate puts the leaf into My and the intermediates into
		// CA; 3DES and SHA-1 are what Windows before 2019 can open.
		name: "iis", secret: true, pack: asPKCS12(pkcs12.LegacyDES),
		lines: func(x *fixer, out string) string {
			return fmt.Sprintf("Import-PfxCertificate -FilePath %s -CertStoreLocation Cert:\\LocalMachine\\My -Password (Read-Host -AsSecureString)\nnetsh http add sslcert ipport=0.0.0.0:443 certhash=%x appid={00112233-4455-6677-8899-AABBCCDDEEFF}\n", filepath.Base(out), sha1.Sum(x.leaf.Raw))
		},
	},
	{
		// A PKCS #12 file is a key store since Java 8u60 whatever it is called;
		// AES (Modern2023) since 8u301 and 11.0.12. Older ones get JKS, when the
		// file is to be called so.
		name: "java", secret: true, pack: forJava,
		lines: func(_ *fixer, out string) string {
			if isJKSName(out) {
				return fmt.Sprintf("server.ssl.key-store=%s\nserver.ssl.key-store-type=JKS\n# from Java 8u301 on PKCS #12 is the better form: name the file .p12\n", out)
			}
			return fmt.Sprintf("keytool -importkeystore -srckeystore %s -srcstoretype PKCS12 -destkeystore keystore.p12 -deststoretype PKCS12\n# or use it as it is:\nserver.ssl.key-store=%s\nserver.ssl.key-store-type=PKCS12\n", out, out)
		},
	},
}

func targetFor(name string) (*serverTarget, error) {
	if name == "" {
		return nil, nil
	}
	for _, t := range serverTargets {
		if t.name == name {
			return t, nil
		}
	}
	return nil, usageError{fmt.Errorf("unknown server %q: nginx, apache, haproxy, iis or java", name)}
}

func (x *fixer) keyName() string {
	if x.f.key != "" {
		return x.f.key
	}
	return "/path/to/key.pem"
}

func asIs(_ *fixer, _ *chain.Report, _, fixed []byte, _ chain.Options) ([]byte, error) {
	return fixed, nil
}

// withKey writes leaf, intermediates and key into one file, as HAProxy wants them.
func withKey(x *fixer, r *chain.Report, in, fixed []byte, o chain.Options) ([]byte, error) {
	key, err := x.privateKey(r, in, o)
	if err != nil {
		return nil, err
	}
	return append(fixed, key.PEM()...), nil
}

func asPKCS12(enc *pkcs12.Encoder) func(*fixer, *chain.Report, []byte, []byte, chain.Options) ([]byte, error) {
	return func(x *fixer, r *chain.Report, in, _ []byte, o chain.Options) ([]byte, error) {
		key, err := x.privateKey(r, in, o)
		if err != nil {
			return nil, err
		}
		if o.Password == "" {
			return nil, withHint(fmt.Errorf("writing PKCS #12 for %s: it needs a password", x.server), "put one into a file of mode 0600 and name it: --password-file pw.txt")
		}
		certs := r.Repair.Certs()
		leaf, rest := certs[0].X, chain.Parsed(certs[1:])
		out, err := enc.Encode(key.Key(), leaf, rest, o.Password)
		if err != nil {
			return nil, fmt.Errorf("writing PKCS #12: %w", err)
		}
		return out, nil
	}
}

// forJava writes PKCS #12, or JKS when the file is to end in .jks.
func forJava(x *fixer, r *chain.Report, in, fixed []byte, o chain.Options) ([]byte, error) {
	if !isJKSName(x.out) {
		return asPKCS12(pkcs12.Modern2023)(x, r, in, fixed, o)
	}
	key, err := x.privateKey(r, in, o)
	if err != nil {
		return nil, err
	}
	if len(o.Password) < 6 {
		return nil, withHint(errors.New("writing JKS: it needs a password of six characters or more, as keytool wants it"), "put one into a file of mode 0600 and name it: --password-file pw.txt")
	}
	var salt [20]byte
	rand.Read(salt[:])
	return chain.EncodeJKS("server", key, r.Repair.Certs(), o.Password, salt, time.Now()), nil
}

func isJKSName(path string) bool { return strings.EqualFold(filepath.Ext(path), ".jks") }

// privateKey finds the key that belongs to the leaf: --key, or one in the input.
func (x *fixer) privateKey(r *chain.Report, in []byte, o chain.Options) (*chain.PrivateKey, error) {
	if x.f.key != "" {
		b, err := readUpTo(x.f.key, chain.MaxFile)
		if err != nil {
			return nil, err
		}
		in = b
	}
	key := chain.PrivateKeyOf(r.Repair.Certs()[0], in, o.Password)
	if key == nil {
		return nil, withHint(fmt.Errorf("writing for %s: the private key is needed, and is not here", x.server), "name it with --key key.pem")
	}
	return key, nil
}

// settings prints the lines for the server, and checks an existing configuration.
func (x *fixer) settings(t *serverTarget, out string, o chain.Options) error {
	abs := out
	if out != "-" {
		if p, err := filepath.Abs(out); err == nil {
			abs = p
		}
	}
	fmt.Fprint(x.a.err, t.lines(x, abs))
	if x.config == "" {
		return nil
	}
	if t.directives == nil {
		return usageError{fmt.Errorf("%s has no configuration file that names certificates", t.name)}
	}
	return x.checkConfig(t, abs, o)
}
