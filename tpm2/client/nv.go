package client

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// NVIndex is an NV index with its public area. Its Name changes with its state;
// the methods that change it here keep Name and Public in step.
type NVIndex struct {
	Entity
	Public tpm2.TPMSNVPublic
}

// NVIndex asks the TPM about an index, with auth as the authValue to use for it.
func (c *Client) NVIndex(h tpm2.Handle, auth AuthValue) (*NVIndex, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pub, name, err := c.readNVPublic(h)
	if err != nil {
		return nil, err
	}
	return &NVIndex{Entity{h, name, auth}, *pub}, nil
}

// NVDefine makes an index. owner authorizes for the Owner or the Platform.
func (c *Client) NVDefine(owner Auth, pub tpm2.TPMSNVPublic, auth AuthValue, extra ...Auth) (*NVIndex, error) {
	if crypt.Hash(pub.NameAlg) == 0 {
		return nil, fmt.Errorf("defining NV index %v: name algorithm 0x%x is not supported here", pub.NVIndex, uint16(pub.NameAlg))
	}
	cmd := tpm2.NVDefineSpace{AuthHandle: entityOf(owner).Handle, Auth: auth.Secret(), PublicInfo: pub}
	if err := c.Execute(&cmd, nil, with(extra, owner)...); err != nil {
		return nil, err
	}
	i := &NVIndex{Entity{Handle: pub.NVIndex, Auth: auth}, pub}
	i.now(0)
	return i, nil
}

// now notes attributes that the TPM has SET, and what the Name is then.
func (i *NVIndex) now(a tpm2.NVAttributes) {
	i.Public.Attributes |= a
	i.Name = crypt.NVName(&i.Public)
}

// NVUndefine removes an index.
func (c *Client) NVUndefine(owner Auth, i *NVIndex, extra ...Auth) error {
	return c.Execute(&tpm2.NVUndefineSpace{AuthHandle: entityOf(owner).Handle, NVIndex: i.Handle}, nil, with(extra, owner, About(i.Entity))...)
}

// by makes the authorization one for the index as it is now, if it is for the index.
func (i *NVIndex) by(a Auth) Auth {
	if a == nil {
		return nil
	}
	z := a.authorization()
	if z.entity.Handle == i.Handle {
		z.entity.Name = i.Name
	}
	return settled(z)
}

type settled authorization

func (s settled) authorization() authorization { return authorization(s) }

// NVWrite writes data at an offset, in as many commands as the TPM wants; by
// is the index itself or a hierarchy. A policy session authorizes only one
// command, so data that needs more must be written by another authorization.
func (c *Client) NVWrite(by Auth, i *NVIndex, data []byte, offset int, extra ...Auth) error {
	if offset < 0 || offset+len(data) > 0xffff {
		return fmt.Errorf("writing NV index %v: no index is so large", i.Handle)
	}
	chunk, err := c.nvChunk(len(data))
	if err != nil {
		return err
	}
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), chunk)
		cmd := tpm2.NVWrite{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle, Data: data[:n], Offset: uint16(offset)}
		if err := c.Execute(&cmd, nil, with(extra, i.by(by), About(i.Entity))...); err != nil {
			return err
		}
		i.now(tpm2.NVWritten)
		data, offset = data[n:], offset+n
	}
	return nil
}

// NVRead reads a whole index.
func (c *Client) NVRead(by Auth, i *NVIndex, extra ...Auth) ([]byte, error) {
	return c.NVReadAt(by, i, int(i.Public.DataSize), 0, extra...)
}

// NVReadAt reads n octets at an offset, in as many commands as the TPM wants.
func (c *Client) NVReadAt(by Auth, i *NVIndex, n, offset int, extra ...Auth) ([]byte, error) {
	if offset < 0 || n < 0 || offset+n > 0xffff {
		return nil, fmt.Errorf("reading NV index %v: no index is so large", i.Handle)
	}
	chunk, err := c.nvChunk(n)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, n)
	for first := true; first || len(out) < n; first = false {
		want := min(n-len(out), chunk)
		cmd := tpm2.NVRead{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle, Size: uint16(want), Offset: uint16(offset + len(out))}
		var rsp tpm2.NVReadResponse
		if err := c.Execute(&cmd, &rsp, with(extra, i.by(by), About(i.Entity))...); err != nil {
			return nil, err
		}
		if len(rsp.Data) != want {
			return nil, fmt.Errorf("TPM2_NV_Read: %w: %d octets for the %d asked for", ErrResponse, len(rsp.Data), want)
		}
		out = append(out, rsp.Data...)
	}
	return out, nil
}

// nvChunk is how much of n octets to move at once: TPM_PT_NV_BUFFER_MAX, which
// is only asked for when it matters.
func (c *Client) nvChunk(n int) (int, error) {
	if n <= nvChunkDefault {
		return nvChunkDefault, nil
	}
	m, ok, err := c.Property(tpm2.PTNVBufferMax)
	if err != nil {
		return 0, err
	}
	if !ok || m == 0 {
		return nvChunkDefault, nil
	}
	return int(min(m, nvChunkMost)), nil
}

// NVIncrement counts a counter index up.
func (c *Client) NVIncrement(by Auth, i *NVIndex, extra ...Auth) error {
	return c.nvChange(&tpm2.NVIncrement{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle}, by, i, tpm2.NVWritten, extra)
}

// NVExtend extends an extend index.
func (c *Client) NVExtend(by Auth, i *NVIndex, data []byte, extra ...Auth) error {
	return c.nvChange(&tpm2.NVExtend{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle, Data: data}, by, i, tpm2.NVWritten, extra)
}

// NVSetBits sets bits of a bit-field index.
func (c *Client) NVSetBits(by Auth, i *NVIndex, bits uint64, extra ...Auth) error {
	return c.nvChange(&tpm2.NVSetBits{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle, Bits: bits}, by, i, tpm2.NVWritten, extra)
}

// NVWriteLock ends writing: until the next TPM Reset, or for ever, as the index
// was defined.
func (c *Client) NVWriteLock(by Auth, i *NVIndex, extra ...Auth) error {
	return c.nvChange(&tpm2.NVWriteLock{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle}, by, i, tpm2.NVWriteLocked, extra)
}

// NVReadLock ends reading until the next TPM Reset.
func (c *Client) NVReadLock(by Auth, i *NVIndex, extra ...Auth) error {
	return c.nvChange(&tpm2.NVReadLock{AuthHandle: entityOf(by).Handle, NVIndex: i.Handle}, by, i, tpm2.NVReadLocked, extra)
}

func (c *Client) nvChange(cmd tpm2.Command, by Auth, i *NVIndex, sets tpm2.NVAttributes, extra []Auth) error {
	if err := c.Execute(cmd, nil, with(extra, i.by(by), About(i.Entity))...); err != nil {
		return err
	}
	i.now(sets)
	return nil
}

// NVCertify has the TPM sign a part of an index's contents.
func (c *Client) NVCertify(ak, by Auth, i *NVIndex, n, offset int, nonce []byte, extra ...Auth) (*Attested, error) {
	var rsp tpm2.NVCertifyResponse
	cmd := tpm2.NVCertify{
		SignHandle: entityOf(ak).Handle, AuthHandle: entityOf(by).Handle, NVIndex: i.Handle,
		QualifyingData: nonce, InScheme: inKeyScheme, Size: uint16(n), Offset: uint16(offset),
	}
	if err := c.Execute(&cmd, &rsp, with(extra, ak, i.by(by), About(i.Entity))...); err != nil {
		return nil, err
	}
	return &Attested{rsp.CertifyInfo, tpm2.Marshal(&rsp.Signature)}, nil
}
