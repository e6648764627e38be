package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Opening a disk without the service: where an operator allowed it, the agent
// keeps the server's share in the vTPM as well, sealed so that it opens
//
//	in an approved boot, once (as the local share: PolicyAuthorize, PCR 15 = 0),
//	until the TPM was reset so many times more (resetCount, which no command sets back),
//	until the TPM has run so long more (Clock, which only goes forward).
//
// All three are the TPM's to enforce (Part 3, 23.10: TPM2_PolicyCounterTimer).
// What it cannot know is how long it was switched off. Everything that is needed
// lies in one NV index, a ticket; each admission with the disk renews it, and the
// first one after the leave was withdrawn removes it. docs/formats/offline.md.

// offlineIndex is the first of the NV indices for tickets, in the owner's range
// of the TCG's registry of reserved handles; there is one for each disk.
const offlineIndex tpm2.Handle = 0x01805653

// maxTickets is as many as a VM may have disks.
const maxTickets = 16

// maxTicket bounds what is read: an NV index has at most as much.
const maxTicket = tpm2.MaxNVIndexSize

// ticket is what lies in an index, as JSON. Nothing in it is secret without the TPM.
type ticket struct {
	Disk      string           `json:"disk"`
	VolumeKey []byte           `json:"volume_key"`
	Unlock    admission.Unlock `json:"unlock"`
	Public    []byte           `json:"public"`  // TPM2B_PUBLIC's content
	Private   []byte           `json:"private"` // TPM2B_PRIVATE's content
	Resets    uint32           `json:"resets"`  // the last resetCount that it opens with
	Clock     uint64           `json:"clock"`   // the last Clock, in ms
}

// Offsets in TPMS_TIME_INFO (Part 2, 10.11.6): time, then clock, then resetCount.
const (
	offsetClock      = 8
	offsetResetCount = 16
)

// OfflineKey is a disk key that was had without the service.
type OfflineKey struct {
	Key       secret.Bytes
	VolumeKey []byte // the recorded digest
	// Boots and For are what is left of the leave, this boot counted already.
	Boots uint32
	For   time.Duration
}

// ErrNoTicket means that no operator allowed this disk to be opened offline, or
// that the VM was not admitted with it since.
var ErrNoTicket = errors.New("nobody allowed this disk to be opened without the service (OFFLINE_NOT_ALLOWED)")

// ErrTicketUsedUp means that the leave ran out: the TPM itself refuses.
var ErrTicketUsedUp = errors.New("the leave to open this disk without the service is used up (OFFLINE_USED_UP)")

// Unreachable says whether err means that nobody answers. A service that
// answers with a no, or somebody else who answers, is not that.
func Unreachable(err error) bool {
	var r *attester.Refused
	return err != nil && !errors.As(err, &r) && passing(err)
}

// OfflineDiskKey gets a disk's key without the service, if that was allowed.
func (a *Agent) OfflineDiskKey(disk string) (OfflineKey, error) {
	fail := func(err error) (OfflineKey, error) {
		return OfflineKey{}, fmt.Errorf("getting the key of disk %s without the service: %w", disk, err)
	}
	tickets, err := a.tickets()
	if err != nil {
		return fail(err)
	}
	for _, t := range tickets {
		if t.Disk != disk {
			continue
		}
		k, err := a.redeem(&t.ticket)
		if err != nil {
			return fail(err)
		}
		return k, nil
	}
	return fail(ErrNoTicket)
}

func (a *Agent) redeem(t *ticket) (OfflineKey, error) {
	now, err := a.TPM.ReadClock()
	if err != nil {
		return OfflineKey{}, err
	}
	policy, err := newUnlocking(&t.Unlock)
	if err != nil {
		return OfflineKey{}, err
	}
	srk, err := a.TPM.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.SRKTemplate(client.P256))
	if err != nil {
		return OfflineKey{}, err
	}
	defer a.TPM.Flush(srk.Handle)
	server, err := a.unsealTicket(t, policy, srk)
	if err != nil {
		if now.ClockInfo.ResetCount > t.Resets || now.ClockInfo.Clock > t.Clock { // only to say why
			err = errors.Join(ErrTicketUsedUp, err)
		}
		return OfflineKey{}, fmt.Errorf("opening the server's share: %w", err)
	}
	defer server.Erase()
	local, err := a.localShare(policy, srk)
	if err != nil {
		return OfflineKey{}, err
	}
	defer local.Erase()
	key, err := derive.DiskKey(server, local, a.Tenant, a.VM, t.Disk)
	return OfflineKey{Key: key, VolumeKey: t.VolumeKey, Boots: t.Resets - now.ClockInfo.ResetCount, For: time.Duration(t.Clock-now.ClockInfo.Clock) * time.Millisecond}, err
}

func (a *Agent) unsealTicket(t *ticket, u *unlocking, srk *client.Key) (secret.Bytes, error) {
	blob := &client.Blob{Private: t.Private}
	if err := tpm2.Unmarshal(t.Public, &blob.Public); err != nil {
		return secret.Bytes{}, err
	}
	s, err := a.fulfilled(srk, func(s *client.Session) error {
		if err := s.PolicyPCR(u.selection, nil); err != nil {
			return err
		}
		if err := s.PolicyAuthorize(u.key, u.ref, &u.signature); err != nil {
			return err
		}
		for _, l := range t.limits() {
			if err := s.PolicyCounterTimer(l.value, l.offset, tpm2.EOUnsignedLE); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return secret.Bytes{}, err
	}
	defer s.Close()
	// Loaded after the policy key, which PolicyAuthorize needs for a moment:
	// Linux's /dev/tpmrm0 has room for three objects.
	item, err := a.TPM.Load(srk.Entity, blob, nil)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer a.TPM.Flush(item.Handle)
	return a.unsealBy(s, item.Entity)
}

type limit struct {
	value  []byte
	offset uint16
}

func (t *ticket) limits() []limit {
	return []limit{{binary.BigEndian.AppendUint32(nil, t.Resets), offsetResetCount}, {binary.BigEndian.AppendUint64(nil, t.Clock), offsetClock}}
}

// policy is the digest that the share is sealed under.
func (t *ticket) policy(authorized []byte) []byte {
	digest := authorized
	for _, l := range t.limits() { // Part 3, 23.10.1
		args := sha256.New()
		args.Write(l.value)
		args.Write(binary.BigEndian.AppendUint16(nil, l.offset))
		args.Write(binary.BigEndian.AppendUint16(nil, uint16(tpm2.EOUnsignedLE)))
		h := sha256.New()
		h.Write(digest)
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.CCPolicyCounterTimer)))
		h.Write(args.Sum(nil))
		digest = h.Sum(nil)
	}
	return digest
}

// keepOffline follows what the service says of opening a disk without it: a new
// ticket, or none.
func (a *Agent) keepOffline(adm *Admission, disk string, server secret.Bytes, srk *client.Key) error {
	if err := a.eraseTickets(func(t *ticket) bool { return adm.Offline == nil || t.Disk == disk }); err != nil || adm.Offline == nil || len(adm.VolumeKey) == 0 {
		return err // without a recorded volume key nobody could tell whose disk it is
	}
	now, err := a.TPM.ReadClock()
	if err != nil {
		return err
	}
	t := ticket{Disk: disk, VolumeKey: adm.VolumeKey, Unlock: adm.Unlock,
		Resets: now.ClockInfo.ResetCount + adm.Offline.Boots, Clock: now.ClockInfo.Clock + uint64(adm.Offline.Seconds)*1000}
	if next := adm.Unlock.Next; next != nil { // the local share was sealed anew under it
		t.Unlock = *next
	}
	u, err := newUnlocking(&t.Unlock)
	if err != nil {
		return err
	}
	s, err := a.TPM.StartSession(client.SessionConfig{Salt: srk})
	if err != nil {
		return err
	}
	defer s.Close()
	blob, err := a.TPM.Seal(s.Auth(srk.Entity, tpm2.SessionDecrypt), server.Reveal(), t.policy(u.policy), nil)
	if err != nil {
		return err
	}
	t.Public, t.Private = tpm2.Marshal(&blob.Public), blob.Private
	// It must open; better to learn now that it does not.
	again, err := a.unsealTicket(&t, u, srk)
	again.Erase()
	if err != nil {
		return fmt.Errorf("trying it: %w", err)
	}
	return a.writeTicket(&t)
}

// parseTicket reads what anybody with the owner's authorization may have written.
func parseTicket(data []byte) (*ticket, error) {
	if len(data) > maxTicket {
		return nil, fmt.Errorf("reading a ticket: %d bytes, more than %d", len(data), maxTicket)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	t := new(ticket)
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("reading a ticket: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("reading a ticket: something follows it")
	}
	if t.Disk == "" || len(t.VolumeKey) != sha256.Size || t.Unlock.Next != nil {
		return nil, errors.New("reading a ticket: it names no disk, or no volume key")
	}
	return t, nil
}

type kept struct {
	ticket
	index *client.NVIndex
}

func (a *Agent) tickets() ([]kept, error) {
	there, err := a.TPM.Handles(tpm2.HandleSpace(0x01))
	if err != nil {
		return nil, err
	}
	var out []kept
	for _, h := range there {
		if h < offlineIndex || h >= offlineIndex+maxTickets {
			continue
		}
		index, err := a.TPM.NVIndex(h, nil)
		if err != nil {
			return nil, err
		}
		k := kept{index: index}
		if index.Public.Attributes.Has(tpm2.NVWritten) && index.Public.DataSize <= maxTicket {
			data, err := a.TPM.NVRead(client.Hierarchy(tpm2.RHOwner, nil), index)
			if err != nil {
				return nil, err
			}
			if t, err := parseTicket(data); err == nil {
				k.ticket = *t
			} // else it was written halfway, or is not ours: it opens nothing
		}
		out = append(out, k)
	}
	return out, nil
}

func (a *Agent) writeTicket(t *ticket) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if len(data) > maxTicket {
		return fmt.Errorf("a ticket of %d bytes", len(data))
	}
	taken, err := a.tickets()
	if err != nil {
		return err
	}
	free := offlineIndex
	for _, k := range taken { // ascending
		if k.index.Handle == free {
			free++
		}
	}
	if free == offlineIndex+maxTickets {
		return errors.New("all places for tickets are taken")
	}
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	index, err := a.TPM.NVDefine(owner, tpm2.TPMSNVPublic{NVIndex: free, NameAlg: tpm2.AlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVNoDA}, nil)
	if err != nil {
		return err
	}
	return a.TPM.NVWrite(owner, index, data, 0)
}

// EraseOffline removes every ticket: no disk opens without the service any more.
func (a *Agent) EraseOffline() error { return a.eraseTickets(func(*ticket) bool { return true }) }

func (a *Agent) eraseTickets(which func(*ticket) bool) error {
	tickets, err := a.tickets()
	if err != nil {
		return err
	}
	for _, k := range tickets {
		if k.Disk == "" || which(&k.ticket) {
			if err := a.TPM.NVUndefine(client.Hierarchy(tpm2.RHOwner, nil), k.index); err != nil {
				return err
			}
		}
	}
	return nil
}
