package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// keyService is who has the keys for modules and writes their uses down.
type keyService interface {
	show(ctx context.Context) (api.ModuleKeys, error)
	init(ctx context.Context, in api.NewModuleKeys) (api.ModuleKeys, error)
	rotate(ctx context.Context, in api.RotateModuleKey) (api.ModuleKeys, error)
	use(ctx context.Context, in api.ModuleUse) ([]byte, error)
	close()
}

// openKeyService opens the service of a state directory; while its server runs,
// which holds the audit log, it is asked over its API, as one on another machine
// is, whose credential dir holds.
func openKeyService(ctx context.Context, dir string) (keyService, error) {
	dir, err := stateDir(dir)
	if err != nil {
		return nil, err
	}
	f := clientFlags{state: dir}
	if !exists(filepath.Join(dir, fileService)) && exists(filepath.Join(dir, credentialCert)) {
		f.credential = dir
	}
	if f.credential != "" || listens(filepath.Join(dir, fileURL)) {
		c, err := f.open()
		if err != nil {
			return nil, err
		}
		return &keysElsewhere{c}, nil
	}
	s, err := openService(ctx, dir, serviceOptions{})
	if err != nil {
		return nil, err
	}
	who := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	return &keysHere{s, "local " + who}, nil
}

// listens tells whether a server answers where the file says: a killed one leaves it behind.
func listens(urlFile string) bool {
	b, err := os.ReadFile(urlFile)
	if err != nil {
		return false
	}
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(strings.TrimSpace(string(b)), "https://"), 2*time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// keysHere is the service opened in this process, for its default tenant.
type keysHere struct {
	s   *service
	who string
}

func (k *keysHere) close() { _ = k.s.close() }

func (k *keysHere) show(ctx context.Context) (api.ModuleKeys, error) {
	st, err := k.s.modKeys().Show(ctx, defaultTenant)
	return k.answer(st, err)
}

func (k *keysHere) init(ctx context.Context, in api.NewModuleKeys) (api.ModuleKeys, error) {
	st, err := k.s.modKeys().Init(ctx, defaultTenant, k.who, in.Name, in.Kind)
	return k.answer(st, err)
}

func (k *keysHere) rotate(ctx context.Context, in api.RotateModuleKey) (api.ModuleKeys, error) {
	st, rotated, err := k.s.modKeys().Rotate(ctx, defaultTenant, k.who, in.Kind, in.IfDue)
	out, err := k.answer(st, err)
	out.Rotated = rotated
	return out, err
}

func (k *keysHere) use(ctx context.Context, in api.ModuleUse) ([]byte, error) {
	if in.Only {
		return nil, k.s.modKeys().Record(ctx, defaultTenant, k.who, in.Use())
	}
	sig, err := k.s.modKeys().Sign(ctx, defaultTenant, k.who, in.Use())
	return sig, hintOfRefusal(err)
}

func (k *keysHere) answer(st modkeys.State, err error) (api.ModuleKeys, error) {
	if err != nil {
		return api.ModuleKeys{}, hintOfRefusal(err)
	}
	return api.ModuleKeysOf(st), nil
}

// hintOfRefusal says what the API says to a client.
func hintOfRefusal(err error) error {
	var r enroll.Refusal
	if errors.As(err, &r) {
		for _, e := range modkeys.Refusals {
			if e.Code == r.Code {
				return withHint(err, "%s", e.Remedy.EN)
			}
		}
	}
	return err
}

// keysElsewhere is the service behind its API.
type keysElsewhere struct{ c *apiClient }

func (k *keysElsewhere) close() { k.c.http.CloseIdleConnections() }

func (k *keysElsewhere) show(ctx context.Context) (out api.ModuleKeys, err error) {
	return out, k.c.call(ctx, "GET", "/v1/module-keys", nil, &out)
}

func (k *keysElsewhere) init(ctx context.Context, in api.NewModuleKeys) (out api.ModuleKeys, err error) {
	return out, k.c.call(ctx, "POST", "/v1/module-keys", in, &out)
}

func (k *keysElsewhere) rotate(ctx context.Context, in api.RotateModuleKey) (out api.ModuleKeys, err error) {
	return out, k.c.call(ctx, "POST", "/v1/module-keys/rotate", in, &out)
}

func (k *keysElsewhere) use(ctx context.Context, in api.ModuleUse) ([]byte, error) {
	var out api.ModuleSignature
	err := k.c.call(ctx, "POST", "/v1/module-keys/sign", in, &out)
	return out.Signature, err
}

// useRecord writes the uses of a key down before they happen. With a leaf it is
// the key itself, which then is in the keyring.
type useRecord struct {
	ctx  context.Context
	keys keyService
	leaf *x509.Certificate
	file string // what is being signed
}

// about says which file the next signature is over.
func (u *useRecord) about(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	u.file = abs
	if host, err := os.Hostname(); err == nil {
		u.file = host + ":" + abs
	}
	return nil
}

// Public implements crypto.Signer.
func (u *useRecord) Public() crypto.PublicKey { return u.leaf.PublicKey }

// Sign implements crypto.Signer: the service records, and signs.
func (u *useRecord) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return u.keys.use(u.ctx, u.request(u.leaf, digest, opts.HashFunc(), false))
}

// write records a use of a key that is elsewhere.
func (u *useRecord) write(cert *x509.Certificate, digest []byte, h crypto.Hash) error {
	_, err := u.keys.use(u.ctx, u.request(cert, digest, h, true))
	return err
}

func (u *useRecord) request(cert *x509.Certificate, digest []byte, h crypto.Hash, only bool) api.ModuleUse {
	return api.ModuleUse{File: u.file, Serial: fmt.Sprintf("%x", cert.SerialNumber), Hash: modsig.HashName(h), Digest: digest, Only: only}
}

// openKeyring is "keyring:", or "keyring:DIR" for another state directory or a credential.
func openKeyring(ctx context.Context, name string) (*moduleSigner, error) {
	keys, err := openKeyService(ctx, strings.TrimPrefix(name, "keyring:"))
	if err != nil {
		return nil, err
	}
	got, err := keys.show(ctx)
	if err != nil {
		keys.close()
		return nil, err
	}
	leaf, err := parseCertificate([]byte(got.Leaf))
	if err != nil {
		keys.close()
		return nil, fmt.Errorf("reading the signing key's certificate: %w", err)
	}
	u := &useRecord{ctx: ctx, keys: keys, leaf: leaf}
	return &moduleSigner{key: u, cert: leaf, uses: u, end: keys.close}, nil
}
