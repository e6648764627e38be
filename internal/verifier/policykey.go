package verifier

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// KeyStore keeps keys, wrapped; internal/store is one.
type KeyStore interface {
	Key(ctx context.Context, tenant, name string) (keyring.Key, error)
	SaveKey(ctx context.Context, k keyring.Key) error
}

// PolicyKeys are the tenants' policy keys: each is made when first needed.
//
// A VM's local share is sealed under PolicyAuthorize of one version. So rotating
// shuts no disk: every approval is there under all versions that are kept, the
// VM opens with the one it was sealed under, and seals anew under the newest at
// its next admission. What the service itself believes counts under the newest
// alone, from the moment of the rotation.
type PolicyKeys struct {
	Store KeyStore
	Ring  *keyring.Ring
	Now   func() time.Time

	mu   sync.Mutex
	open map[string]*policyKey
	// approving keeps a rotation and an approval apart: one that is signed with
	// the old version while all others are signed anew would be lost.
	approving sync.RWMutex
}

// PolicyKeyName is its name in the keyring.
const PolicyKeyName = "policy"

// policyKey is a tenant's policy key with all versions, opened.
type policyKey struct {
	key     keyring.Key
	signers map[uint32]crypto.Signer

	mu sync.Mutex
	// verified has the hashes of statements and signatures that the primary version
	// made here or was found to have made: every boot of every VM asks for the same ones.
	verified map[[sha256.Size]byte]struct{}
}

// maxVerified: 32 bytes each. Beyond that, remembering begins anew.
const maxVerified = 1 << 16

// verify is attest.Verify under the primary version.
func (k *policyKey) verify(signed *attest.SignedStatement) (*attest.ReferenceValues, error) {
	id := statementID(signed)
	k.mu.Lock()
	_, known := k.verified[id]
	k.mu.Unlock()
	if known {
		return attest.ReadVerified(signed)
	}
	r, err := attest.Verify(signed, k.primary().Public().(*ecdsa.PublicKey))
	if err != nil {
		return nil, err
	}
	k.remember(id)
	return r, nil
}

// remember keeps the id of a statement that the primary version signed.
func (k *policyKey) remember(id [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.verified == nil || len(k.verified) >= maxVerified {
		k.verified = map[[sha256.Size]byte]struct{}{}
	}
	k.verified[id] = struct{}{}
}

func statementID(signed *attest.SignedStatement) [sha256.Size]byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(signed.Statement)))) // so that no two pairs read the same
	h.Write(signed.Statement)
	h.Write(signed.Signature)
	return [sha256.Size]byte(h.Sum(nil))
}

func (k *policyKey) primary() crypto.Signer { return k.signers[k.key.Primary] }

func (p *PolicyKeys) get(ctx context.Context, tenant string) (*policyKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.open[tenant]; k != nil {
		return k, nil
	}
	k, err := p.Store.Key(ctx, tenant, PolicyKeyName)
	if errors.Is(err, enroll.ErrNotFound) {
		if k, err = p.Ring.Create(tenant, PolicyKeyName, keyring.Identity, keyring.Policy{}, p.Now()); err == nil {
			err = p.Store.SaveKey(ctx, k)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the policy key of tenant %s: %w", tenant, err)
	}
	return p.keep(tenant, k)
}

// keep opens a key and remembers it; p.mu is held.
func (p *PolicyKeys) keep(tenant string, k keyring.Key) (*policyKey, error) {
	opened, err := p.openKey(k)
	if err != nil {
		return nil, fmt.Errorf("the policy key of tenant %s: %w", tenant, err)
	}
	if p.open == nil {
		p.open = map[string]*policyKey{}
	}
	p.open[tenant] = opened
	return opened, nil
}

func (p *PolicyKeys) openKey(k keyring.Key) (*policyKey, error) {
	opened, err := p.Ring.Open(k)
	if err != nil {
		return nil, err
	}
	out := &policyKey{key: k, signers: map[uint32]crypto.Signer{}}
	for _, v := range k.Versions {
		if out.signers[v.N], err = opened.Signer(v.N); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sign signs a statement with the primary version, and approves the same set for
// the TPMs under every version that is kept.
func (k *policyKey) sign(s *attest.Statement, subject string, created time.Time) (Reference, error) {
	ref := Reference{Tenant: s.Tenant, Subject: subject, Version: s.Version, KeyVersion: k.key.Primary, Created: created}
	for version, signer := range k.signers {
		signed, err := s.Sign(signer, policyRef(s.Tenant, subject))
		if err != nil {
			return ref, err
		}
		if version == k.key.Primary {
			ref.Signed = *signed
			k.remember(statementID(signed))
			continue
		}
		if ref.Older == nil {
			ref.Older = map[uint32]attest.Approval{}
		}
		ref.Older[version] = signed.Approved
	}
	return ref, nil
}

// RotatePolicyKey makes a new version of a tenant's policy key and signs
// everything that is approved anew. It refuses when a version would be dropped
// that a VM's local share is still sealed under.
func (v *Verifier) RotatePolicyKey(ctx context.Context, tenant string) (keyring.Key, error) {
	fail := func(err error) (keyring.Key, error) {
		return keyring.Key{}, fmt.Errorf("rotating the policy key of tenant %s: %w", tenant, err)
	}
	v.Keys.approving.Lock()
	defer v.Keys.approving.Unlock()
	old, err := v.Keys.get(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	seals, err := v.Records.Seals(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	rotated, _, err := v.Keys.Ring.Rotate(old.key, v.Now(), func(version uint32) bool { return seals[int64(version)] > 0 || seals[-1] > 0 })
	if errors.Is(err, keyring.ErrVersionInUse) {
		oldest := old.key.Versions[0].N
		return fail(enroll.Refusal{Code: "KEY_VERSION_IN_USE", Why: fmt.Sprintf("version %d would be dropped: %d VMs have their local share sealed under it, and %d have not said", oldest, seals[int64(oldest)], seals[-1])})
	}
	if err != nil {
		return fail(err)
	}
	next, err := v.Keys.openKey(rotated)
	if err != nil {
		return fail(err)
	}
	refs, err := v.Records.TenantReferences(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	for i := range refs {
		known, err := attest.Verify(&refs[i].Signed, old.primary().Public().(*ecdsa.PublicKey))
		if err == nil {
			err = refs[i].is(known) // or another VM's TPM would take it from now on
		}
		if err != nil {
			return fail(fmt.Errorf("version %d of the reference values of %s: %w", refs[i].Version, refs[i].Subject, err))
		}
		s := known.Statement()
		signed, err := s.Sign(next.primary(), policyRef(tenant, refs[i].Subject))
		if err != nil {
			return fail(err)
		}
		if !bytes.Equal(signed.Statement, refs[i].Signed.Statement) {
			return fail(fmt.Errorf("version %d of the reference values of %s is not written as this program writes it", refs[i].Version, refs[i].Subject))
		}
		refs[i].Signed, refs[i].KeyVersion = *signed, rotated.Primary
	}
	lists, err := v.resignModules(ctx, tenant, old, next)
	if err != nil {
		return fail(err)
	}
	if err := v.Records.RotatePolicyKey(ctx, rotated, refs, lists); err != nil {
		return fail(err)
	}
	v.Keys.mu.Lock()
	defer v.Keys.mu.Unlock()
	v.Keys.open[tenant] = next
	return rotated, nil
}

// sealedUnder finds the newest version of the policy key that a VM's local share
// is sealed under, by the policy digests that it told: 0 for none.
func (k *policyKey) sealedUnder(tenant, vm string, policies [][]byte) (uint32, error) {
	for _, v := range slices.Backward(k.key.Versions) {
		want, err := attest.PolicyAuthorize(k.signers[v.N].Public().(*ecdsa.PublicKey), policyRef(tenant, vm))
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(policies, func(p []byte) bool { return bytes.Equal(p, want) }) {
			return v.N, nil
		}
	}
	return 0, nil
}

// unlock is what lets the vTPM see that this boot is approved: under the version
// that its share is sealed under, and beside it the newest when that is another.
func (k *policyKey) unlock(ref *Reference, sealed uint32) ([]byte, error) {
	of := func(version uint32, a attest.Approval) (admission.Unlock, error) {
		der, err := x509.MarshalPKIXPublicKey(k.signers[version].Public())
		return admission.Unlock{PolicyKey: der, Approval: &a}, err
	}
	newest, err := of(k.key.Primary, ref.Signed.Approved)
	if err != nil {
		return nil, err
	}
	if old, ok := ref.Older[sealed]; ok && k.signers[sealed] != nil {
		u, err := of(sealed, old)
		if err != nil {
			return nil, err
		}
		u.Next = &newest
		return json.Marshal(u)
	}
	return json.Marshal(newest)
}

// PolicyKeys are the public halves of all versions of a tenant's policy key, as
// SubjectPublicKeyInfo.
func (v *Verifier) PolicyKeys(ctx context.Context, tenant string) (map[uint32][]byte, error) {
	k, err := v.Keys.get(ctx, tenant)
	if err != nil {
		return nil, err
	}
	out := map[uint32][]byte{}
	for n, signer := range k.signers {
		if out[n], err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// is wants the row to be the one that the statement in it was written to: nothing
// else in the row is signed.
func (ref *Reference) is(r *attest.ReferenceValues) error {
	if s := r.Statement(); s.Tenant != ref.Tenant || s.Policy != ref.Subject || s.Version != ref.Version {
		return errors.New("it was approved for another")
	}
	return nil
}

// BadReference is an approved boot on record that nobody approved.
type BadReference struct {
	Subject string
	Version uint64
	Why     error
}

// CheckReferences verifies every approved boot of a tenant under its policy key.
func CheckReferences(ctx context.Context, records interface {
	TenantReferences(ctx context.Context, tenant string) ([]Reference, error)
}, ring *keyring.Ring, k keyring.Key) ([]BadReference, error) {
	opened, err := ring.Open(k)
	if err != nil {
		return nil, err
	}
	signer, err := opened.Signer(0)
	if err != nil {
		return nil, err
	}
	refs, err := records.TenantReferences(ctx, k.Tenant)
	if err != nil {
		return nil, err
	}
	var bad []BadReference
	for _, ref := range refs {
		r, err := attest.Verify(&ref.Signed, signer.Public().(*ecdsa.PublicKey))
		if err == nil {
			err = ref.is(r)
		}
		if err != nil {
			bad = append(bad, BadReference{ref.Subject, ref.Version, err})
		}
	}
	return bad, nil
}
