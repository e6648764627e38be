package engine

import (
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

const headerSize = 10 // tag, size, code

// call is one command on its way through the pipeline.
type call struct {
	info     *tpm2.CommandInfo
	locality uint8
	handles  []tpm2.Handle
	auths    []auth
	params   []byte // the parameter area as it came, decrypted in place

	decryptBy, encryptBy, auditBy int // index into auths, or -1

	auditCp, commandCp []byte // cpHash for the audit session and for command audit

	flush tpm2.Handle // an object that goes once the response is made, or 0

	handleMem [3]tpm2.Handle
	authMem   [maxAuths]auth
}

// Execute runs one command at a locality and appends its response to dst. Any
// bytes at all may be given: what is not a command is answered with a response code.
func (t *TPM) Execute(locality uint8, cmd, dst []byte) (rsp []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			t.fail(fault)
			t.enc.Reset(nil)
			rsp = failure(dst, tpm2.RCFailure)
		}
	}()
	t.abandonHCRTM()
	t.tick()
	c := &t.call
	*c = call{locality: locality, decryptBy: -1, encryptBy: -1, auditBy: -1}
	t.enc.Reset(dst)
	rc := t.execute(c, cmd)
	if rc != tpm2.RCSuccess {
		t.tx = nil
		return failure(dst, rc)
	}
	if c.flush != 0 {
		t.flushObject(c.flush)
	}
	out := t.enc.Out()
	t.enc.Reset(nil)
	return out
}

// failure is the response of a command that did not succeed (Part 3, 5.9). A
// command whose tag is unknown gets TPM 1.2's.
func failure(dst []byte, rc tpm2.RC) []byte {
	tag := tpm2.STNoSessions
	if rc == tpm2.RCBadTag {
		tag = tpm2.STRspCommand
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(tag))
	dst = binary.BigEndian.AppendUint32(dst, headerSize)
	return binary.BigEndian.AppendUint32(dst, uint32(rc))
}

// execute is Part 3, clause 5, in its order. No step looks at what a later step checks.
func (t *TPM) execute(c *call, cmd []byte) tpm2.RC {
	d := &t.dec
	d.Reset(cmd)

	// 5.2 header
	tag, size, code := tpm2.ST(d.U16()), d.U32(), tpm2.CC(d.U32())
	switch {
	case d.RC() != tpm2.RCSuccess:
		return tpm2.RCCommandSize
	case tag != tpm2.STSessions && tag != tpm2.STNoSessions:
		return tpm2.RCBadTag
	case uint64(size) != uint64(len(cmd)) || int(size) > t.buffer():
		return tpm2.RCCommandSize
	}
	run := command(code)
	if run == nil {
		return tpm2.RCCommandCode
	}
	c.info = run.info

	// 5.3 mode
	switch {
	case t.failed != nil:
		if !worksInFailure(code) || tag == tpm2.STSessions { // before TPM2_Startup as well (9.3.1, 10.4.1, 30.2.1)
			return tpm2.RCFailure
		}
	case !t.ram.started && code != tpm2.CCStartup:
		return tpm2.RCInitialize
	}

	// 5.4 handles
	c.handles = c.handleMem[:len(c.info.Handles)]
	for i, h := range c.info.Handles {
		c.handles[i] = tpm2.Handle(d.U32())
		if d.RC() != tpm2.RCSuccess {
			return tpm2.RCInsufficient.Handle(i + 1)
		}
		if !h.Type.Allows(c.handles[i], h.Null) {
			return tpm2.RCValue.Handle(i + 1)
		}
	}
	for i, h := range c.info.Handles {
		if rc := t.checkEntity(c.handles[i], h.Type, i); rc != tpm2.RCSuccess {
			return rc
		}
	}

	// 5.5 sessions, 5.6 authorization, 5.7 parameter decryption
	if rc := t.readSessions(c, tag, d); rc != tpm2.RCSuccess {
		return rc
	}
	if rc := t.authorize(c); rc != tpm2.RCSuccess {
		return rc
	}
	if rc := t.commit(); rc != tpm2.RCSuccess { // a PIN index has counted, whatever becomes of the command (Part 3, 23.4.1)
		return rc
	}
	if rc := t.decryptParameter(c); rc != tpm2.RCSuccess {
		return rc
	}
	// An audited command changes the audit digest, which is saved as well.
	if !keepsOrder(c.info) || c.commandCp != nil {
		if rc := t.noLongerOrderly(); rc != tpm2.RCSuccess {
			return rc
		}
	}

	// 5.8 parameters and the command itself; then the response
	return run.do(t, c, tag)
}

// respond writes the response: handle, parameters, sessions (Part 3, 5.9).
func (t *TPM) respond(c *call, tag tpm2.ST, out tpm2.Response) tpm2.RC {
	e := &t.enc
	start := len(e.Out())
	e.U16(uint16(tag))
	e.U32(0) // size, below
	e.U32(uint32(tpm2.RCSuccess))
	if h := out.HandleField(); h != nil {
		e.U32(uint32(*h))
	}
	sized := len(e.Out())
	if tag == tpm2.STSessions {
		e.U32(0) // parameterSize, below
	}
	params := len(e.Out())
	out.EncodeParameters(e)
	if len(e.Out())-start+len(c.auths)*maxAuthResponse > t.buffer() { // nothing of the sessions has changed yet
		if h := out.HandleField(); h != nil && h.Space() == tpm2.HTTransient {
			t.flushObject(*h) // nobody would know of it
		}
		return tpm2.RCSize
	}
	if tag == tpm2.STSessions {
		binary.BigEndian.PutUint32(e.Out()[sized:], uint32(len(e.Out())-params))
		t.respondSessions(c, params)
	} else if !c.info.NoSessions {
		t.ram.exclusive = tpm2.RHNull // a command outside the audit session ends its exclusiveness (Part 1, 17.2)
	}
	b := e.Out()
	t.auditCommand(c, b, params)
	binary.BigEndian.PutUint32(b[start+2:], uint32(len(b)-start))
	return tpm2.RCSuccess
}

// cpHash is the digest of the command as sessions and policies sign it (Part 1, 15.7).
func (t *TPM) cpHash(c *call, alg tpm2.AlgID) []byte {
	h := crypt.New(alg)
	var word [4]byte
	binary.BigEndian.PutUint32(word[:], uint32(c.info.Code))
	h.Write(word[:])
	for _, x := range c.handles {
		h.Write(t.nameOf(x))
	}
	h.Write(c.params)
	return h.Sum(nil)
}

// nameHash is the digest of the Names alone (Part 1, 16.7.7.9).
func (t *TPM) nameHash(c *call, alg tpm2.AlgID) []byte {
	h := crypt.New(alg)
	for _, x := range c.handles {
		h.Write(t.nameOf(x))
	}
	return h.Sum(nil)
}

// rpHash is the digest of the response (Part 1, 15.8); params is still encrypted.
func rpHash(alg tpm2.AlgID, cc tpm2.CC, params []byte) []byte {
	var pre [8]byte // TPM_RC_SUCCESS, then the code
	binary.BigEndian.PutUint32(pre[4:], uint32(cc))
	return crypt.Digest(alg, pre[:], params)
}

// maxAuthResponse is the most that a session takes in a response: nonce, attributes, HMAC.
const maxAuthResponse = 2 + maxDigest + 1 + 2 + maxDigest

// buffer is the largest command and response.
func (t *TPM) buffer() int {
	if t.cfg.Buffer == 0 {
		return MaxCommandSize
	}
	return min(t.cfg.Buffer, MaxLargeSize)
}

// tooLarge reports whether a response with a part of n octets cannot be given,
// for commands that ask before they have done what cannot be undone.
func (t *TPM) tooLarge(n int) bool { return n+headerSize+maxAuths*maxAuthResponse > t.buffer() }
