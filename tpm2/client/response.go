package client

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// authResponse is one TPMS_AUTH_RESPONSE (Part 2, 10.15).
type authResponse struct {
	nonce []byte
	attrs tpm2.SessionAttributes
	hmac  []byte
}

// splitResponse checks the header of a response and takes it apart. auths has
// room for the sessions that the command had. The results alias r.
func splitResponse(info *tpm2.CommandInfo, tag tpm2.ST, r []byte, auths []authResponse) (params []byte, handle tpm2.Handle, err error) {
	if len(r) < headerSize || int(binary.BigEndian.Uint32(r[2:])) != len(r) {
		return nil, 0, badResponse(info, "its size is wrong")
	}
	gotTag, rc := tpm2.ST(binary.BigEndian.Uint16(r)), tpm2.RC(binary.BigEndian.Uint32(r[6:]))
	if rc != tpm2.RCSuccess {
		// Part 1, 15.4: a refusal is a header without sessions. A TPM that took
		// the command for one of TPM 1.2 answers with that one's tag.
		if gotTag != tpm2.STNoSessions && gotTag != tpm2.STRspCommand || len(r) != headerSize {
			return nil, 0, badResponse(info, "code 0x%x in a response of %d octets with tag 0x%x", uint32(rc), len(r), uint16(gotTag))
		}
		return nil, 0, newCommandError(info, rc)
	}
	if gotTag != tag {
		return nil, 0, badResponse(info, "its tag is 0x%x and should be 0x%x", uint16(gotTag), uint16(tag))
	}
	d := tpm2.NewDecoder(r[headerSize:])
	if info.ResponseHandle {
		handle = tpm2.Handle(d.U32())
	}
	if tag == tpm2.STNoSessions {
		if err := d.Err(); err != nil {
			return nil, 0, badResponse(info, "it ends in its handle")
		}
		return d.Rest(), handle, nil
	}
	n := d.U32()
	if d.RC() != 0 || int64(n) > int64(len(d.Rest())) {
		return nil, 0, badResponse(info, "its parameter size is wrong")
	}
	params = d.Bytes(int(n))
	for i := range auths {
		auths[i] = authResponse{nonce: d.Buf(64), attrs: tpm2.SessionAttributes(d.U8()), hmac: d.Buf(64)}
	}
	d.Done()
	if d.RC() != 0 {
		return nil, 0, badResponse(info, "its authorization area is not that of %d sessions", len(auths))
	}
	return params, handle, nil
}

func decode(info *tpm2.CommandInfo, rsp tpm2.Response, params []byte) error {
	d := tpm2.NewDecoder(params)
	rsp.DecodeParameters(d)
	d.Done()
	if d.RC() != 0 {
		return badResponse(info, "its parameters do not decode: %v", d.RC())
	}
	return nil
}

// receive checks the response to the command that c.auths belong to and decodes it.
func (c *Client) receive(info *tpm2.CommandInfo, cmd tpm2.Command, rsp tpm2.Response, tag tpm2.ST, r []byte) error {
	var room [maxSessions]authResponse
	auths := room[:len(c.auths)]
	wire, handle, err := splitResponse(info, tag, r, auths)
	if err != nil {
		return err
	}
	params := bytes.Clone(wire) // rsp aliases it, and c.in is needed again
	for i := range c.auths {
		if err := c.checkAuth(info, cmd, &c.auths[i], auths[i], wire); err != nil {
			return err
		}
	}
	for i, a := range c.auths {
		if a.session == nil {
			continue
		}
		// The TPM has accepted the command, so the session goes on from here
		// even if the response turns out to make no sense.
		a.session.nonceTPM = append(a.session.nonceTPM[:0], auths[i].nonce...)
		if a.attrs.Has(tpm2.SessionEncrypt) {
			if _, err := a.session.crypt(authAfter(cmd, a.entity), firstBuffer(params), true, false); err != nil {
				return badResponse(info, "%v", err)
			}
		}
		if !a.extra {
			a.session.needAuth, a.session.needPassword = false, false // the policy begins anew (Part 3, 23.1)
		}
		if a.attrs.Has(tpm2.SessionAudit) {
			a.session.bindName = nil // Part 1, 17.1: an audit session is bound to nothing
		}
		if auths[i].attrs&tpm2.ContinueSession == 0 {
			a.session.gone()
		}
	}
	if p := rsp.HandleField(); p != nil {
		*p = handle
	} else if info.ResponseHandle {
		return badResponse(info, "the given response type has no room for its handle")
	}
	return decode(info, rsp, params)
}

// checkAuth checks that the response comes from whoever knows the session's secrets.
func (c *Client) checkAuth(info *tpm2.CommandInfo, cmd tpm2.Command, a *authorization, got authResponse, params []byte) error {
	s := a.session
	if s == nil {
		if len(got.nonce) != 0 || len(got.hmac) != 0 {
			return badResponse(info, "a password authorization is answered with an HMAC")
		}
		return nil
	}
	if len(got.nonce) != len(s.nonceTPM) {
		return badResponse(info, "the nonce of session %v is %d octets long, not %d", s.handle, len(got.nonce), len(s.nonceTPM))
	}
	var want []byte
	if !s.needPassword || a.extra { // Part 3, 23.18: with PolicyPassword the response has no HMAC
		var cc [4]byte
		binary.BigEndian.PutUint32(cc[:], uint32(info.Code))
		rpHash := crypt.Digest(s.hash, []byte{0, 0, 0, 0}, cc[:], params) // Part 1, 15.8
		want = s.hmac(a, authAfter(cmd, a.entity), rpHash, got.nonce, s.nonceCaller, got.attrs)
	}
	if !hmac.Equal(got.hmac, want) {
		return badResponse(info, "the HMAC of session %v is wrong: the authorization value or the Name of an entity is not what it was taken for, or somebody is in between", s.handle)
	}
	if (got.attrs^a.attrs)&tpm2.SessionEncrypt != 0 {
		return badResponse(info, "session %v was to encrypt the response and did not", s.handle)
	}
	return nil
}

// authAfter is the authValue of e after cmd, for the HMAC of the response: the
// new one where the command has changed it (Part 1, 16.6.4).
func authAfter(cmd tpm2.Command, e Entity) AuthValue {
	switch cmd := cmd.(type) {
	case *tpm2.HierarchyChangeAuth:
		return Secret(cmd.NewAuth)
	case *tpm2.NVChangeAuth:
		return Secret(cmd.NewAuth)
	case *tpm2.PCRSetAuthValue:
		return Secret(cmd.Auth)
	case *tpm2.Clear:
		if e.Handle == tpm2.RHLockout { // it becomes the EmptyAuth
			return nil
		}
	case *tpm2.NVUndefineSpaceSpecial:
		if e.Handle == cmd.NVIndex { // it is no more
			return nil
		}
	}
	return e.Auth
}

// notice keeps the sessions in step with commands about them.
func (c *Client) notice(cmd tpm2.Command) {
	switch cmd := cmd.(type) {
	case *tpm2.PolicyAuthValue:
		c.mark(cmd.PolicySession, true, false)
	case *tpm2.PolicyPassword:
		c.mark(cmd.PolicySession, false, true)
	case *tpm2.PolicyRestart:
		c.mark(cmd.SessionHandle, false, false)
	case *tpm2.FlushContext:
		if s := c.sessions[cmd.FlushHandle]; s != nil {
			s.gone()
		}
	}
}

func (c *Client) mark(h tpm2.Handle, auth, password bool) {
	if s := c.sessions[h]; s != nil {
		s.needAuth, s.needPassword = auth, password
	}
}
