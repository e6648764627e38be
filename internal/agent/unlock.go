package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// LocalShareHandle is where the local share lies in the vTPM, sealed: one for
// all disks of the VM, since the server's shares differ. It is in the range that
// the TCG's registry of reserved handles leaves to the owner.
const LocalShareHandle tpm2.Handle = 0x81005653

// localShareHandles are the two places for it: when the policy key was rotated
// the share is sealed anew into the free one, and only when it was seen to open
// there is the old one removed. So a cut-off loses nothing.
var localShareHandles = []tpm2.Handle{LocalShareHandle, LocalShareHandle + 1}

// DiskKey joins the server's share, which only this TPM in this boot can read,
// and the local one, which the TPM unseals in an approved state alone. The first
// time it makes the local share. It must come before [Agent.Lock], and once for an admission.
func (a *Agent) DiskKey(adm *Admission, disk string) (secret.Bytes, error) {
	fail := func(err error) (secret.Bytes, error) {
		// A person at the console reads why, not only the TPM's return code.
		if locked, lerr := a.Locked(); lerr == nil && locked {
			err = fmt.Errorf("%w (%v)", ErrLocked, err)
		}
		return secret.Bytes{}, fmt.Errorf("getting the key of disk %s: %w", disk, err)
	}
	if adm.Share == nil || adm.boot == nil {
		return fail(errors.New("the service sent no share"))
	}
	policy, err := newUnlocking(&adm.Unlock)
	if err != nil {
		return fail(err)
	}
	server, err := a.serverShare(adm, policy)
	if err != nil {
		return fail(fmt.Errorf("opening the server's share: %w", err))
	}
	defer server.Erase()
	// Linux's /dev/tpmrm0 has room for three objects (drivers/char/tpm/tpm2-space.c), and
	// this one has done its work.
	if err := a.TPM.Flush(adm.boot.Handle); err != nil {
		return fail(err)
	}
	adm.boot = nil
	srk, err := a.TPM.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.SRKTemplate(client.P256))
	if err != nil {
		return fail(err)
	}
	defer a.TPM.Flush(srk.Handle)
	local, err := a.localShare(policy, srk)
	if err != nil {
		return fail(err)
	}
	defer local.Erase()
	if err := a.sealAnew(&adm.Unlock, policy, srk, local); err != nil {
		return fail(fmt.Errorf("sealing the local share under the tenant's new policy key: %w", err))
	}
	if err := a.keepOffline(adm, disk, server, srk); err != nil {
		return fail(fmt.Errorf("keeping the leave to open it without the service: %w", err))
	}
	key, err := derive.DiskKey(server, local, a.Tenant, a.VM, disk)
	if err != nil {
		return fail(err)
	}
	return key, nil
}

// LocalShare unseals the local share alone: whether the TPM takes this boot for
// an approved one, without the service.
func (a *Agent) LocalShare(unlock *admission.Unlock) (secret.Bytes, error) {
	policy, err := newUnlocking(unlock)
	if err != nil {
		return secret.Bytes{}, err
	}
	srk, err := a.TPM.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.SRKTemplate(client.P256))
	if err != nil {
		return secret.Bytes{}, err
	}
	defer a.TPM.Flush(srk.Handle)
	return a.localShare(policy, srk)
}

// ErrLocked means that this boot has had its disk key.
var ErrLocked = errors.New("PCR 15 was extended, as after each opening: a disk opens once a boot")

// Locked says whether [Agent.Lock] was called in this boot.
func (a *Agent) Locked() (bool, error) {
	values, err := a.TPM.ReadPCRs(client.Select(tpm2.AlgSHA256, attest.UnlockPCR))
	if err != nil {
		return false, err
	}
	v := values[tpm2.AlgSHA256][attest.UnlockPCR]
	return !bytes.Equal(v, make([]byte, len(v))), nil
}

// Lock ends the time in which this boot can have the disk key.
func (a *Agent) Lock() error {
	if _, err := a.TPM.EventPCR(attest.UnlockPCR, []byte("vouchsafe: the disk key was used")); err != nil {
		return fmt.Errorf("extending PCR %d: %w", attest.UnlockPCR, err)
	}
	return nil
}

// unlocking is an approval, read.
type unlocking struct {
	key       *tpm2.TPMTPublic
	policy    []byte // what the local share is sealed under
	ref       []byte
	selection []tpm2.TPMSPCRSelection
	signature tpm2.TPMTSignature
}

func newUnlocking(u *admission.Unlock) (*unlocking, error) {
	if u.Approval == nil {
		return nil, errors.New("the service sent no approval")
	}
	public, err := x509.ParsePKIXPublicKey(u.PolicyKey)
	if err != nil {
		return nil, fmt.Errorf("reading the policy key: %w", err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("reading the policy key: it is not ECDSA")
	}
	out := &unlocking{ref: u.Approval.PolicyRef}
	if out.key, err = attest.PolicyKeyPublic(ec); err != nil {
		return nil, err
	}
	if out.policy, err = attest.PolicyAuthorize(ec, out.ref); err != nil {
		return nil, err
	}
	// TPML_PCR_SELECTION with one bank and three bytes of PCRs.
	sel := u.Approval.Selection
	if len(sel) != 10 || binary.BigEndian.Uint32(sel) != 1 || sel[6] != 3 {
		return nil, errors.New("reading the approval: its PCR selection is malformed")
	}
	out.selection = []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgID(binary.BigEndian.Uint16(sel[4:])), PCRSelect: sel[7:]}}
	if err := tpm2.Unmarshal(u.Approval.Signature, &out.signature); err != nil {
		return nil, fmt.Errorf("reading the approval: %w", err)
	}
	return out, nil
}

// serverShare imports what the service encrypted to this boot's key. Its policy
// is the approved PCR values themselves.
func (a *Agent) serverShare(adm *Admission, u *unlocking) (secret.Bytes, error) {
	d := client.Duplicate{Blob: adm.Share.Duplicate, Seed: adm.Share.Seed}
	if err := tpm2.Unmarshal(adm.Share.Public, &d.Public); err != nil {
		return secret.Bytes{}, err
	}
	blob, err := a.TPM.Import(adm.boot.Entity, &d)
	if err != nil {
		return secret.Bytes{}, err
	}
	item, err := a.TPM.Load(adm.boot.Entity, blob, nil)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer a.TPM.Flush(item.Handle)
	return a.unseal(item.Entity, adm.boot, func(s *client.Session) error { return s.PolicyPCR(u.selection, nil) })
}

// localShare unseals the VM's own share, or makes it.
func (a *Agent) localShare(u *unlocking, srk *client.Key) (secret.Bytes, error) {
	items, err := a.localShares()
	if err != nil {
		return secret.Bytes{}, err
	}
	for _, item := range items {
		if bytes.Equal(item.Public.AuthPolicy, u.policy) {
			share, err := a.unsealLocal(item, u, srk)
			if err != nil {
				return share, fmt.Errorf("unsealing the local share: %w", err)
			}
			return share, nil
		}
	}
	if len(items) > 0 {
		return secret.Bytes{}, fmt.Errorf("the object at %v is not sealed under this service's policy key for this VM: somebody else put it there, or the service was made anew", items[0].Handle)
	}
	share := secret.Random(derive.ShareSize)
	return share, a.sealLocal(share, u, srk, LocalShareHandle)
}

// localShares are the objects that hold the local share: none before the first
// admission, two when sealing it anew was cut off.
func (a *Agent) localShares() ([]*client.Key, error) {
	there, err := a.TPM.Handles(tpm2.HandleSpace(0x81))
	if err != nil {
		return nil, err
	}
	var items []*client.Key
	for _, h := range localShareHandles {
		if !slices.Contains(there, h) {
			continue
		}
		item, err := a.TPM.Key(h, nil)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (a *Agent) unsealLocal(item *client.Key, u *unlocking, srk *client.Key) (secret.Bytes, error) {
	return a.unseal(item.Entity, srk, func(s *client.Session) error {
		if err := s.PolicyPCR(u.selection, nil); err != nil {
			return err
		}
		return s.PolicyAuthorize(u.key, u.ref, &u.signature)
	})
}

func (a *Agent) sealLocal(share secret.Bytes, u *unlocking, srk *client.Key, at tpm2.Handle) error {
	s, err := a.TPM.StartSession(client.SessionConfig{Salt: srk})
	if err != nil {
		return err
	}
	defer s.Close()
	blob, err := a.TPM.Seal(s.Auth(srk.Entity, tpm2.SessionDecrypt), share.Reveal(), u.policy, nil)
	if err != nil {
		return fmt.Errorf("sealing the local share: %w", err)
	}
	item, err := a.TPM.Load(srk.Entity, blob, nil)
	if err != nil {
		return err
	}
	defer a.TPM.Flush(item.Handle)
	if _, err := a.TPM.Persist(client.Hierarchy(tpm2.RHOwner, nil), item, at); err != nil {
		return fmt.Errorf("keeping the local share: %w", err)
	}
	return nil
}

// sealAnew follows a rotation of the tenant's policy key: the share goes under
// the new version beside the old object, is opened from there, and then the old
// object goes. Each step may have been done before.
func (a *Agent) sealAnew(u *admission.Unlock, now *unlocking, srk *client.Key, share secret.Bytes) error {
	newest := now
	if u.Next != nil {
		var err error
		if newest, err = newUnlocking(u.Next); err != nil {
			return err
		}
	}
	items, err := a.localShares()
	if err != nil {
		return err
	}
	isNew := func(k *client.Key) bool { return bytes.Equal(k.Public.AuthPolicy, newest.policy) }
	if !slices.ContainsFunc(items, isNew) {
		if len(items) == len(localShareHandles) {
			return errors.New("both places for the local share are taken by older ones")
		}
		free := localShareHandles[0]
		if items[0].Handle == free {
			free = localShareHandles[1]
		}
		if err := a.sealLocal(share, newest, srk, free); err != nil {
			return err
		}
		if items, err = a.localShares(); err != nil {
			return err
		}
	}
	if len(items) == 1 {
		return nil
	}
	for _, item := range items {
		if isNew(item) {
			again, err := a.unsealLocal(item, newest, srk)
			if err != nil {
				return err
			}
			same := again.Equal(share)
			again.Erase()
			if !same {
				return errors.New("the two objects hold different shares")
			}
		}
	}
	for _, item := range items {
		if !isNew(item) {
			if err := a.TPM.Evict(client.Hierarchy(tpm2.RHOwner, nil), item.Handle); err != nil {
				return err
			}
		}
	}
	return nil
}

// unseal opens an item in a policy session.
func (a *Agent) unseal(item client.Entity, salt *client.Key, fulfil func(*client.Session) error) (secret.Bytes, error) {
	s, err := a.fulfilled(salt, fulfil)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer s.Close()
	return a.unsealBy(s, item)
}

// fulfilled is a policy session whose policy was fulfilled.
func (a *Agent) fulfilled(salt *client.Key, fulfil func(*client.Session) error) (*client.Session, error) {
	s, err := a.TPM.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Salt: salt})
	if err != nil {
		return nil, err
	}
	if err := fulfil(s); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// unsealBy opens an item; what it holds crosses the wire encrypted.
func (a *Agent) unsealBy(s *client.Session, item client.Entity) (secret.Bytes, error) {
	b, err := a.TPM.Unseal(s.Auth(item, tpm2.SessionEncrypt))
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(b), nil
}

// RecordVolumeKey tells the service which volume key belongs to a disk, once.
// The agent must speak with the VM's identity.
func (a *Agent) RecordVolumeKey(ctx context.Context, disk string, digest []byte) error {
	return a.Call(ctx, "POST", "/v1/vms/"+url.PathEscape(a.VM)+"/disks/"+url.PathEscape(disk)+"/volume-key", admission.VolumeKey{Digest: digest}, nil)
}
