package api

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// Key is a key as operators see it: never the key itself.
type Key struct {
	Name    string   `json:"name" doc:"root, audit, policy, ca/PURPOSE, …"`
	Scope   string   `json:"scope" enum:"service,tenant" doc:"whose it is"`
	Class   string   `json:"class" enum:"root,signing,encryption,identity,access"`
	Purpose string   `json:"purpose"`
	Rotate  string   `json:"rotate" doc:"what rotates it; empty: nothing does"`
	Primary uint32   `json:"primary,omitempty" doc:"the version in use"`
	Since   string   `json:"since,omitempty" doc:"since when"`
	Every   int64    `json:"every_seconds,omitempty" doc:"how long a version may be in use; 0: as long as it likes"`
	Due     string   `json:"due,omitempty" doc:"why it should be rotated now"`
	Tiers   []string `json:"tiers,omitempty" doc:"root: which tiers open it"`
	// Protects counts what stands directly under the key.
	Protects string       `json:"protects,omitempty"`
	Versions []KeyVersion `json:"versions,omitempty" doc:"the newest first; at most three beside the primary one"`
}

// KeyVersion is one version of a key.
type KeyVersion struct {
	Number  uint32 `json:"number"`
	Created string `json:"created"`
	State   string `json:"state" enum:"primary,historic"`
	Public  string `json:"public,omitempty" doc:"identity keys: PUBLIC KEY in PEM"`
	Digest  string `json:"digest,omitempty" doc:"SHA-256 of its SubjectPublicKeyInfo"`
	Used    string `json:"used,omitempty" doc:"what still needs it"`
}

const rotateByHand = "on the machine, with the service stopped: vouchsafe key rotate "

func (s *server) keys() {
	operation(s, "GET", "/v1/keys", "list-keys", "Every key of the service and of the tenant, without its secret", operators, func(ctx context.Context, _ *none) (*body[[]Key], error) {
		out, err := s.allKeys(ctx)
		return answer(out), err
	})
	type named struct {
		Name string `query:"name" required:"true" maxLength:"80"`
	}
	operation(s, "GET", "/v1/key", "get-key", "One key", operators, func(ctx context.Context, in *named) (*body[Key], error) {
		all, err := s.allKeys(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			if k.Name == in.Name {
				return answer(k), nil
			}
		}
		return nil, fmt.Errorf("key %s: %w", in.Name, enroll.ErrNotFound)
	})
	operation(s, "POST", "/v1/key/rotate", "rotate-key", "Make a new version of the tenant's policy key", operators, func(ctx context.Context, in *named) (*body[Key], error) {
		switch {
		case in.Name == "root" || strings.HasPrefix(in.Name, "ca/"):
			return nil, &Problem{Status: http.StatusConflict, Title: "Conflict", Code: "ROTATE_BY_HAND",
				Detail: "key " + in.Name + " is not rotated over the network", Hint: rotateByHand + in.Name}
		case in.Name != verifier.PolicyKeyName:
			return nil, &Problem{Status: http.StatusConflict, Title: "Conflict", Code: "NOT_ROTATED", Detail: "nothing rotates a key " + in.Name, Hint: "vouchsafe key list says what can be rotated"}
		}
		who := caller(ctx)
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "key.rotated", Object: in.Name})
		if err != nil {
			return nil, err
		}
		k, err := s.Verifier.RotatePolicyKey(ctx, who.Tenant)
		if err != nil {
			intent.Failed(ctx, err)
			return nil, err
		}
		if _, err := intent.Done(ctx, map[string]string{"version": fmt.Sprint(k.Primary)}); err != nil {
			return nil, err
		}
		out, err := s.policyKey(ctx, k)
		return answer(out), err
	})
}

func (s *server) allKeys(ctx context.Context) ([]Key, error) {
	tenant := caller(ctx).Tenant
	stored, err := s.Store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	tiers, since, err := s.RootKey()
	if err != nil {
		return nil, err
	}
	vms, disks, err := s.Store.CountSecrets(ctx)
	if err != nil {
		return nil, err
	}
	out := []Key{
		{Name: "root", Scope: "service", Class: "root", Purpose: "wraps every other key and secret", Rotate: rotateByHand + "root", Tiers: tiers, Since: stamp(since),
			Protects: fmt.Sprintf("%s, the state secrets of %s, the server shares of %s", count(len(stored), "key"), count(vms, "VM"), count(disks, "disk"))},
		{Name: "audit", Scope: "service", Class: "signing", Purpose: "signs the audit log's checkpoints; the world knows the log by it", Protects: s.AuditKey},
	}
	for _, k := range stored {
		switch {
		case k.Tenant == "":
			out = append(out, s.serviceKey(k))
		case k.Tenant == tenant && k.Name == verifier.PolicyKeyName:
			p, err := s.policyKey(ctx, k)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		case k.Tenant == tenant:
			out = append(out, keyOut(k, s.Now()))
		}
	}
	return out, nil
}

// serviceKey is the key of an intermediate.
func (s *server) serviceKey(k keyring.Key) Key {
	out := keyOut(k, s.Now())
	out.Scope = "service"
	purpose, ok := strings.CutPrefix(k.Name, "ca/")
	if !ok {
		return out
	}
	out.Purpose, out.Rotate = "signs "+purpose+" certificates", rotateByHand+k.Name+" --recovery KEYFILE"
	return out
}

func (s *server) policyKey(ctx context.Context, k keyring.Key) (Key, error) {
	out := keyOut(k, s.Now())
	out.Purpose, out.Rotate = "approves boots, for the service and for the TPMs", "vouchsafe key rotate "+k.Name
	seals, err := s.Store.Seals(ctx, k.Tenant)
	if err != nil {
		return out, err
	}
	publics, err := s.Verifier.PolicyKeys(ctx, k.Tenant)
	if err != nil {
		return out, err
	}
	for i := range out.Versions {
		v := &out.Versions[i]
		v.Used = count(seals[int64(v.Number)], "VM") + " sealed under it"
		if der, ok := publics[v.Number]; ok {
			v.Public, v.Digest = publicPEM(der)
		}
	}
	if n := seals[-1]; n > 0 {
		out.Protects = count(n, "VM") + " did not say yet under what the local share is sealed: the next admission will"
	}
	return out, nil
}

func publicPEM(der []byte) (text, digest string) {
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return "", ""
	}
	sum := sha256.Sum256(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), hex.EncodeToString(sum[:])
}

func keyOut(k keyring.Key, now time.Time) Key {
	out := Key{Name: k.Name, Scope: "tenant", Class: string(k.Class), Primary: k.Primary, Since: stamp(k.Since), Every: int64(k.Policy.Every / time.Second), Due: k.Due(now)}
	for i := len(k.Versions) - 1; i >= 0; i-- {
		v := KeyVersion{Number: k.Versions[i].N, Created: stamp(k.Versions[i].Created), State: "historic"}
		if v.Number == k.Primary {
			v.State = "primary"
		}
		out.Versions = append(out.Versions, v)
	}
	return out
}

// count is a number of things: "1 VM", "2 VMs".
func count(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}
