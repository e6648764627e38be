package client

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Key is an object loaded in the TPM, with its public area.
type Key struct {
	Entity
	Public tpm2.TPMTPublic
}

// Blob is an object outside the TPM: only its parent can load it again.
type Blob struct {
	Private []byte
	Public  tpm2.TPMTPublic
}

// Creation is what a TPM says of an object at its creation, for TPM2_CertifyCreation.
type Creation struct {
	Data   tpm2.TPMSCreationData
	Hash   []byte
	Ticket tpm2.TPMTTkCreation
}

// NewObject says what to create. The zero value of all but Public is common.
type NewObject struct {
	Public tpm2.TPMTPublic

	Auth        AuthValue // its authValue
	Data        []byte    // what to seal, or a symmetric key; nil to have the TPM make one
	OutsideInfo []byte
	PCRs        []tpm2.TPMSPCRSelection // noted in its creation data
}

func (o NewObject) sensitive() tpm2.TPMSSensitiveCreate {
	return tpm2.TPMSSensitiveCreate{UserAuth: o.Auth.Secret(), Data: o.Data}
}

// CreatePrimary makes the primary object that a template stands for, in the
// hierarchy that in authorizes. extra may encrypt its authValue on the way.
func (c *Client) CreatePrimary(in Auth, template tpm2.TPMTPublic, extra ...Auth) (*Key, error) {
	k, _, err := c.CreatePrimaryObject(in, NewObject{Public: template}, extra...)
	return k, err
}

// CreatePrimaryObject is [Client.CreatePrimary] with an authValue, and tells of the creation.
func (c *Client) CreatePrimaryObject(in Auth, o NewObject, extra ...Auth) (*Key, *Creation, error) {
	cmd := tpm2.CreatePrimary{
		PrimaryHandle: entityOf(in).Handle, InSensitive: o.sensitive(), InPublic: o.Public,
		OutsideInfo: o.OutsideInfo, CreationPCR: o.PCRs,
	}
	var rsp tpm2.CreatePrimaryResponse
	if err := c.Execute(&cmd, &rsp, with(extra, in)...); err != nil {
		return nil, nil, err
	}
	if err := checkName(&rsp.OutPublic, rsp.Name); err != nil {
		return nil, nil, fmt.Errorf("TPM2_CreatePrimary: %w", err)
	}
	k := &Key{Entity{rsp.ObjectHandle, rsp.Name, o.Auth}, rsp.OutPublic}
	return k, &Creation{rsp.CreationData, rsp.CreationHash, rsp.CreationTicket}, nil
}

// with puts the authorizations before the extra sessions.
func with(extra []Auth, auths ...Auth) []Auth { return append(auths, extra...) }

// Create makes an object under a parent. It is not loaded: see [Client.Load].
func (c *Client) Create(parent Auth, o NewObject, extra ...Auth) (*Blob, *Creation, error) {
	cmd := tpm2.Create{
		ParentHandle: entityOf(parent).Handle, InSensitive: o.sensitive(), InPublic: o.Public,
		OutsideInfo: o.OutsideInfo, CreationPCR: o.PCRs,
	}
	var rsp tpm2.CreateResponse
	if err := c.Execute(&cmd, &rsp, with(extra, parent)...); err != nil {
		return nil, nil, err
	}
	return &Blob{rsp.OutPrivate, rsp.OutPublic}, &Creation{rsp.CreationData, rsp.CreationHash, rsp.CreationTicket}, nil
}

// Load loads an object under the parent that made it. The authValue is kept
// with the result; the TPM has its own.
func (c *Client) Load(parent Auth, b *Blob, auth AuthValue, extra ...Auth) (*Key, error) {
	if b.Public.NameAlg != tpm2.AlgNull && crypt.Hash(b.Public.NameAlg) == 0 {
		return nil, fmt.Errorf("loading an object: its name algorithm 0x%x is not supported here", uint16(b.Public.NameAlg))
	}
	var rsp tpm2.LoadResponse
	cmd := tpm2.Load{ParentHandle: entityOf(parent).Handle, InPrivate: b.Private, InPublic: b.Public}
	if err := c.Execute(&cmd, &rsp, with(extra, parent)...); err != nil {
		return nil, err
	}
	if err := checkName(&b.Public, rsp.Name); err != nil {
		return nil, fmt.Errorf("TPM2_Load: %w", err)
	}
	return &Key{Entity{rsp.ObjectHandle, rsp.Name, auth}, b.Public}, nil
}

// LoadPublic loads a public area alone, to verify with, under the Owner's proof
// or, for none, TPM_RH_NULL.
func (c *Client) LoadPublic(pub *tpm2.TPMTPublic, hierarchy tpm2.Handle) (*Key, error) {
	var rsp tpm2.LoadExternalResponse
	if err := c.Execute(&tpm2.LoadExternal{InPublic: *pub, Hierarchy: hierarchy}, &rsp); err != nil {
		return nil, err
	}
	if err := checkName(pub, rsp.Name); err != nil {
		return nil, fmt.Errorf("TPM2_LoadExternal: %w", err)
	}
	return &Key{Entity{rsp.ObjectHandle, rsp.Name, nil}, *pub}, nil
}

// Key asks the TPM what is at a handle, with auth as the authValue to use for it.
func (c *Client) Key(h tpm2.Handle, auth AuthValue) (*Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pub, name, err := c.readPublic(h)
	if err != nil {
		return nil, err
	}
	return &Key{Entity{h, name, auth}, *pub}, nil
}

// SaveContext takes a loaded object or session out of the TPM. The object stays
// loaded as well, a session does not.
func (c *Client) SaveContext(h tpm2.Handle) (*tpm2.TPMSContext, error) {
	var rsp tpm2.ContextSaveResponse
	if err := c.Execute(&tpm2.ContextSave{SaveHandle: h}, &rsp); err != nil {
		return nil, err
	}
	return &rsp.Context, nil
}

// LoadContext brings it back; an object may get another handle.
func (c *Client) LoadContext(saved *tpm2.TPMSContext) (tpm2.Handle, error) {
	var rsp tpm2.ContextLoadResponse
	err := c.Execute(&tpm2.ContextLoad{Context: *saved}, &rsp)
	return rsp.LoadedHandle, err
}

// Flush unloads a transient object or a session.
func (c *Client) Flush(h tpm2.Handle) error {
	return c.Execute(&tpm2.FlushContext{FlushHandle: h}, nil)
}

// Persist makes a loaded object persistent at a handle; owner authorizes for
// the Owner or the Platform. The object stays loaded as well.
func (c *Client) Persist(owner Auth, k *Key, at tpm2.Handle, extra ...Auth) (*Key, error) {
	err := c.Execute(&tpm2.EvictControl{Auth: entityOf(owner).Handle, ObjectHandle: k.Handle, PersistentHandle: at},
		nil, with(extra, owner, About(k.Entity))...)
	if err != nil {
		return nil, err
	}
	p := *k
	p.Handle = at
	return &p, nil
}

// Evict removes a persistent object.
func (c *Client) Evict(owner Auth, h tpm2.Handle, extra ...Auth) error {
	return c.Execute(&tpm2.EvictControl{Auth: entityOf(owner).Handle, ObjectHandle: h, PersistentHandle: h}, nil, with(extra, owner)...)
}
