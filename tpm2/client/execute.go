package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Execute sends cmd and decodes the answer into rsp, which is of the matching
// type, or nil when the answer says nothing of interest. auths are one for each
// handle that needs authorization, in order, then any extra sessions. A refusal
// by the TPM is a [*CommandError]. What rsp holds is the caller's to keep.
func (c *Client) Execute(cmd tpm2.Command, rsp tpm2.Response, auths ...Auth) error {
	info := tpm2.Info(cmd.CommandCode())
	if info == nil {
		return fmt.Errorf("command 0x%x is not one that this package knows", uint32(cmd.CommandCode()))
	}
	if rsp == nil {
		rsp = info.NewResponse()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.execute(info, cmd, rsp, auths)
	for i := range c.auths {
		a := &c.auths[i]
		if err != nil && a.session != nil && a.attrs&tpm2.ContinueSession == 0 {
			c.flushSession(a.session) // the first error is the one to report
		}
		*a = authorization{}
	}
	return err
}

func (c *Client) execute(info *tpm2.CommandInfo, cmd tpm2.Command, rsp tpm2.Response, auths []Auth) error {
	c.handles = cmd.AppendHandles(c.handles[:0])
	about, err := c.collect(info, auths)
	if err != nil {
		return err
	}
	c.enc.Reset(c.par[:0])
	cmd.EncodeParameters(&c.enc)
	c.par = c.enc.Out()
	if err := c.nameAll(info, about); err != nil {
		return err
	}
	if err := c.encryptParameter(info); err != nil {
		return err
	}

	tag := tpm2.STNoSessions
	if len(c.auths) > 0 {
		tag = tpm2.STSessions
	}
	e := &c.enc
	e.Reset(c.out[:0])
	e.U16(uint16(tag))
	e.U32(0) // the size, when it is known
	e.U32(uint32(info.Code))
	for _, h := range c.handles {
		e.U32(uint32(h))
	}
	if len(c.auths) > 0 {
		e.U32(0) // the size of the authorization area
		at := len(e.Out())
		for i := range c.auths {
			c.writeAuth(info, i)
		}
		binary.BigEndian.PutUint32(e.Out()[at-4:], uint32(len(e.Out())-at))
	}
	e.Bytes(c.par)
	clear(c.par)
	c.out = e.Out()
	if len(c.out) > maxCommand {
		return usage(info, "the command is %d octets long, TPMs take at most %d", len(c.out), maxCommand)
	}
	binary.BigEndian.PutUint32(c.out[2:], uint32(len(c.out)))

	r, err := c.transmit(c.out)
	clear(c.out) // passwords, and sensitive data that was not encrypted
	if err != nil {
		return fmt.Errorf("TPM2_%s: %w", info.Name, err)
	}
	err = c.receive(info, cmd, rsp, tag, r)
	clear(r) // what was unsealed; rsp has its own copy
	if err != nil {
		return err
	}
	c.notice(cmd)
	return nil
}

// collect sorts out what authorizes what.
func (c *Client) collect(info *tpm2.CommandInfo, auths []Auth) ([]Entity, error) {
	c.auths = c.auths[:0]
	var about []Entity
	need := info.Auths()
	for _, a := range auths {
		if a == nil {
			return nil, usage(info, "an authorization is nil")
		}
		z := a.authorization()
		if z.about != nil {
			about = append(about, z.about...)
			continue
		}
		n := len(c.auths)
		switch {
		case n == maxSessions:
			return nil, usage(info, "a command takes at most %d authorizations and sessions", maxSessions)
		case z.extra != (n >= need):
			return nil, usage(info, "it takes %d authorizations, then extra sessions; number %d is the other kind", need, n+1)
		case z.session != nil && z.session.closed:
			return nil, usage(info, "the session %v was closed", z.session.handle)
		case z.session != nil && z.session.c != c:
			return nil, usage(info, "the session %v is of another TPM", z.session.handle)
		case z.extra && z.attrs&(tpm2.SessionDecrypt|tpm2.SessionEncrypt|tpm2.SessionAudit) == 0:
			return nil, usage(info, "an extra session must encrypt, decrypt or audit")
		}
		for _, o := range c.auths {
			if z.session != nil && z.session == o.session {
				return nil, usage(info, "the session %v is there twice", z.session.handle)
			}
		}
		c.auths = append(c.auths, z)
	}
	if len(c.auths) < need {
		return nil, usage(info, "it takes %d authorizations, %d were given", need, len(c.auths))
	}
	if info.NoSessions && len(c.auths) > 0 {
		return nil, usage(info, "it takes no sessions")
	}
	n := 0
	for i, h := range info.Handles {
		if h.Role == tpm2.RoleNone {
			continue
		}
		if got := c.auths[n].entity.Handle; got != c.handles[i] {
			return nil, usage(info, "authorization %d is for %v, but %s is %v", n+1, got, h.Name, c.handles[i])
		}
		n++
	}
	return about, nil
}

// nameAll finds the Name of every handle, if a session makes them matter, and
// draws the nonces.
func (c *Client) nameAll(info *tpm2.CommandInfo, about []Entity) error {
	c.names = c.names[:0]
	any := false
	for _, a := range c.auths {
		if a.session != nil {
			any = true
			a.session.rollCaller()
		}
	}
	if !any {
		return nil
	}
	for _, h := range c.handles {
		name, err := c.nameOf(h, about)
		if err != nil {
			return fmt.Errorf("TPM2_%s: finding the Name of %v: %w", info.Name, h, err)
		}
		c.names = append(c.names, name)
	}
	n := 0
	for i, h := range info.Handles {
		if h.Role != tpm2.RoleNone {
			c.auths[n].entity.Name = c.names[i]
			n++
		}
	}
	return nil
}

func (c *Client) nameOf(h tpm2.Handle, about []Entity) ([]byte, error) {
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent, tpm2.HTNVIndex:
	default:
		return crypt.HandleName(h), nil
	}
	for _, a := range c.auths {
		if !a.extra && a.entity.Handle == h && a.entity.Name != nil {
			return a.entity.Name, nil
		}
	}
	for _, e := range about {
		if e.Handle == h && e.Name != nil {
			return e.Name, nil
		}
	}
	if h.Space() == tpm2.HTNVIndex {
		_, name, err := c.readNVPublic(h)
		return name, err
	}
	_, name, err := c.readPublic(h)
	if errors.Is(err, tpm2.RCSequence) { // a sequence object has an Empty Buffer for its Name (Part 1, 13)
		return []byte{}, nil
	}
	return name, err
}

// ask executes a command that takes one handle and no authorization, without
// touching the scratch space of the command that needs the answer.
func (c *Client) ask(cc tpm2.CC, h tpm2.Handle, rsp tpm2.Response) error {
	info := tpm2.Info(cc)
	b := make([]byte, 0, headerSize+4)
	b = binary.BigEndian.AppendUint16(b, uint16(tpm2.STNoSessions))
	b = binary.BigEndian.AppendUint32(b, headerSize+4)
	b = binary.BigEndian.AppendUint32(b, uint32(cc))
	b = binary.BigEndian.AppendUint32(b, uint32(h))
	r, err := c.transmit(b)
	if err != nil {
		return err
	}
	params, _, err := splitResponse(info, tpm2.STNoSessions, r, nil)
	if err != nil {
		return err
	}
	return decode(info, rsp, bytes.Clone(params))
}

func (c *Client) readPublic(h tpm2.Handle) (*tpm2.TPMTPublic, []byte, error) {
	var rsp tpm2.ReadPublicResponse
	if err := c.ask(tpm2.CCReadPublic, h, &rsp); err != nil {
		return nil, nil, err
	}
	if err := checkName(&rsp.OutPublic, rsp.Name); err != nil {
		return nil, nil, err
	}
	return &rsp.OutPublic, rsp.Name, nil
}

func (c *Client) readNVPublic(h tpm2.Handle) (*tpm2.TPMSNVPublic, []byte, error) {
	var rsp tpm2.NVReadPublicResponse
	if err := c.ask(tpm2.CCNVReadPublic, h, &rsp); err != nil {
		return nil, nil, err
	}
	if crypt.Hash(rsp.NVPublic.NameAlg) == 0 {
		return nil, nil, fmt.Errorf("the index's name algorithm 0x%x is not supported here", uint16(rsp.NVPublic.NameAlg))
	}
	if !bytes.Equal(crypt.NVName(&rsp.NVPublic), rsp.NVName) {
		return nil, nil, fmt.Errorf("%w: the Name is not that of the public area of index %v", ErrResponse, h)
	}
	return &rsp.NVPublic, rsp.NVName, nil
}

// checkName makes sure that a public area and a Name from the TPM belong together.
func checkName(pub *tpm2.TPMTPublic, name []byte) error {
	if pub.NameAlg != tpm2.AlgNull && crypt.Hash(pub.NameAlg) == 0 {
		return fmt.Errorf("the object's name algorithm 0x%x is not supported here", uint16(pub.NameAlg))
	}
	if !bytes.Equal(crypt.ObjectName(pub), name) {
		return fmt.Errorf("%w: the Name is not that of the public area", ErrResponse)
	}
	return nil
}

// encryptParameter encrypts the first parameter for the session that decrypts it (Part 1, 18).
func (c *Client) encryptParameter(info *tpm2.CommandInfo) error {
	var dec, enc int
	for _, a := range c.auths {
		if a.session == nil || a.attrs&(tpm2.SessionDecrypt|tpm2.SessionEncrypt) == 0 {
			continue
		}
		if a.session.symmetric.Algorithm == tpm2.AlgNull {
			return usage(info, "session %v has no algorithm to encrypt with; set SessionConfig.Symmetric", a.session.handle)
		}
		if a.attrs.Has(tpm2.SessionEncrypt) {
			enc++
		}
		if a.attrs.Has(tpm2.SessionDecrypt) {
			dec++
			if !info.Decrypt {
				return usage(info, "its first parameter cannot come encrypted")
			}
			if _, err := a.session.crypt(a.entity.Auth, firstBuffer(c.par), false, true); err != nil {
				return usage(info, "%v", err)
			}
		}
	}
	switch {
	case dec > 1 || enc > 1:
		return usage(info, "only one session may decrypt and one encrypt")
	case enc == 1 && !info.Encrypt:
		return usage(info, "the first parameter of its response cannot be encrypted")
	}
	return nil
}

// firstBuffer is the content of the sized buffer that parameters begin with.
func firstBuffer(params []byte) []byte {
	if len(params) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(params))
	if 2+n > len(params) {
		return nil
	}
	return params[2 : 2+n]
}

// writeAuth appends one TPMS_AUTH_COMMAND (Part 2, 10.14).
func (c *Client) writeAuth(info *tpm2.CommandInfo, i int) {
	a, e := &c.auths[i], &c.enc
	s := a.session
	if s == nil {
		e.U32(uint32(tpm2.RSPW))
		e.Buf(nil)
		e.U8(0) // Part 1, 16.4: attributes other than continueSession are zero, and that has no effect
		e.Buf(a.entity.Auth.Secret())
		return
	}
	e.U32(uint32(s.handle))
	e.Buf(s.nonceCaller)
	e.U8(uint8(a.attrs))
	if s.needPassword && !a.extra {
		e.Buf(a.entity.Auth.Secret())
		return
	}
	a.keyed = !a.extra && s.wantsAuth(a.entity.Name, a.entity.Auth)
	var extraNonces [][]byte
	if i == 0 && !a.extra {
		extraNonces = c.boundNonces()
	}
	e.Buf(s.hmac(a, a.entity.Auth, c.cpHash(info, s.hash), s.nonceCaller, s.nonceTPM, a.attrs, extraNonces...))
}

// boundNonces are the nonceTPM of the other sessions that decrypt and encrypt,
// so that nobody can take those away (Part 1, 16.6.3.4).
func (c *Client) boundNonces() [][]byte {
	var dec, enc *Session
	for _, a := range c.auths[1:] {
		if a.session != nil && a.attrs.Has(tpm2.SessionDecrypt) {
			dec = a.session
		}
		if a.session != nil && a.attrs.Has(tpm2.SessionEncrypt) {
			enc = a.session
		}
	}
	var out [][]byte
	if dec != nil {
		out = append(out, dec.nonceTPM)
	}
	if enc != nil && enc != dec {
		out = append(out, enc.nonceTPM)
	}
	return out
}

// cpHash is the digest of the command as the sessions see it (Part 1, 15.7).
func (c *Client) cpHash(info *tpm2.CommandInfo, alg tpm2.AlgID) []byte {
	return cpHash(alg, info.Code, c.names, c.par)
}

func cpHash(alg tpm2.AlgID, cc tpm2.CC, names [][]byte, params []byte) []byte {
	h := crypt.New(alg)
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(cc))
	h.Write(b[:])
	for _, n := range names {
		h.Write(n)
	}
	h.Write(params)
	return h.Sum(nil)
}
