package client

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// SessionConfig says what kind of session to start. The zero value is an HMAC
// session that is neither salted nor bound: it protects no better than the
// authValue of the entity that it authorizes.
type SessionConfig struct {
	// Type is HMAC, policy or trial.
	Type tpm2.SE

	// Hash is the session's algorithm, and a policy's. SHA-256 if zero.
	Hash tpm2.AlgID

	// Symmetric encrypts parameters. AES-128 in CFB mode if zero; [XOR] where a
	// TPM has no AES; TPM_ALG_NULL for a session that never encrypts.
	Symmetric tpm2.TPMTSymDef

	// Salt is a decryption key in the TPM, such as its EK. The session's key
	// then comes of a secret that only that TPM can read. Its public area must
	// be known from a trusted place (an EK certificate), or whoever sits between
	// shows its own.
	Salt *Key

	// Bind makes the session's key come of this entity's authValue too, which
	// then need not be in the HMAC that authorizes it.
	Bind *Entity
}

// AESCFB is AES with a key of that many bits in CFB mode, for parameters.
func AESCFB(bits uint16) tpm2.TPMTSymDef {
	return tpm2.TPMTSymDef{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymKeyBits{AES: bits}, Mode: tpm2.TPMUSymMode{AES: tpm2.AlgCFB}}
}

// XOR is XOR obfuscation with masks from hash, for parameters.
func XOR(hash tpm2.AlgID) tpm2.TPMTSymDef {
	return tpm2.TPMTSymDef{Algorithm: tpm2.AlgXOR, KeyBits: tpm2.TPMUSymKeyBits{XOR: hash}}
}

// Session is a session in the TPM and our half of it. [Session.Close] flushes it.
type Session struct {
	c         *Client
	handle    tpm2.Handle
	typ       tpm2.SE
	hash      tpm2.AlgID
	symmetric tpm2.TPMTSymDef
	key       AuthValue // the sessionKey (Part 1, 16.6.8 to 16.6.12)
	bindName  []byte    // nil: not bound
	bindAuth  AuthValue

	// Guarded by c.mu.
	nonceCaller, nonceTPM  []byte
	needAuth, needPassword bool // PolicyAuthValue, PolicyPassword
	closed                 bool
}

// StartSession starts a session.
func (c *Client) StartSession(cfg SessionConfig) (*Session, error) {
	s := &Session{c: c, typ: cfg.Type, hash: cfg.Hash, symmetric: cfg.Symmetric}
	if s.hash == 0 {
		s.hash = tpm2.AlgSHA256
	}
	if crypt.Hash(s.hash) == 0 {
		return nil, fmt.Errorf("starting a session: hash algorithm 0x%x is not supported here", uint16(s.hash))
	}
	if s.symmetric.Algorithm == 0 {
		s.symmetric = AESCFB(128)
	}
	cmd := tpm2.StartAuthSession{
		TPMKey: tpm2.RHNull, Bind: tpm2.RHNull,
		NonceCaller: make([]byte, s.hash.DigestSize()), SessionType: s.typ, Symmetric: s.symmetric, AuthHash: s.hash,
	}
	rand.Read(cmd.NonceCaller)
	var salt []byte
	if cfg.Salt != nil {
		cmd.TPMKey = cfg.Salt.Handle
		var err error
		if salt, cmd.EncryptedSalt, err = shareSecret(&cfg.Salt.Public, "SECRET"); err != nil {
			return nil, fmt.Errorf("starting a session salted for %v: %w", cfg.Salt.Handle, err)
		}
	}
	if cfg.Bind != nil {
		bind, err := c.named(*cfg.Bind)
		if err != nil {
			return nil, fmt.Errorf("starting a session bound to %v: %w", cfg.Bind.Handle, err)
		}
		cmd.Bind = bind.Handle
		if s.typ == tpm2.SEHMAC { // a policy session takes the authValue into its key and forgets the entity
			s.bindName, s.bindAuth = bind.Name, bind.Auth
		}
	}
	var rsp tpm2.StartAuthSessionResponse
	if err := c.Execute(&cmd, &rsp); err != nil {
		return nil, err
	}
	if len(rsp.NonceTPM) != len(cmd.NonceCaller) {
		return nil, fmt.Errorf("TPM2_StartAuthSession: %w: nonceTPM is %d octets long, nonceCaller %d", ErrResponse, len(rsp.NonceTPM), len(cmd.NonceCaller))
	}
	s.handle, s.nonceCaller, s.nonceTPM = rsp.SessionHandle, cmd.NonceCaller, rsp.NonceTPM
	if cfg.Salt != nil || cfg.Bind != nil { // Part 1, 16.6.8: otherwise the sessionKey is an Empty Buffer
		var in []byte
		if cfg.Bind != nil {
			in = append(in, cfg.Bind.Auth.Secret()...)
		}
		in = append(in, salt...)
		key := crypt.KDFa(s.hash, in, "ATH", s.nonceTPM, s.nonceCaller, s.hash.DigestSize()*8)
		clear(in)
		clear(salt)
		s.key = func() []byte { return key }
	}
	c.mu.Lock()
	c.sessions[s.handle] = s
	c.mu.Unlock()
	return s, nil
}

// named returns e with its Name, asking the TPM if need be.
func (c *Client) named(e Entity) (Entity, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if e.Name == nil {
		e.Name, err = c.nameOf(e.Handle, nil)
	}
	return e, err
}

// Handle is the session's handle, for the commands that take one.
func (s *Session) Handle() tpm2.Handle { return s.handle }

// Hash is the session's algorithm.
func (s *Session) Hash() tpm2.AlgID { return s.hash }

// NonceTPM is the TPM's latest nonce, which PolicySigned and PolicySecret can bind to.
func (s *Session) NonceTPM() []byte {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return bytes.Clone(s.nonceTPM)
}

// Close flushes the session. Closing it again does nothing.
func (s *Session) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.closed {
		return nil
	}
	return s.c.flushSession(s)
}

// gone forgets a session that is no more in the TPM.
func (s *Session) gone() {
	s.closed = true
	clear(s.key.Secret())
	delete(s.c.sessions, s.handle)
}

// flushSession needs c.mu.
func (c *Client) flushSession(s *Session) error {
	if s.closed {
		return nil
	}
	b := make([]byte, 0, headerSize+4)
	b = binary.BigEndian.AppendUint16(b, uint16(tpm2.STNoSessions))
	b = binary.BigEndian.AppendUint32(b, headerSize+4)
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.CCFlushContext))
	b = binary.BigEndian.AppendUint32(b, uint32(s.handle))
	s.gone()
	info := tpm2.Info(tpm2.CCFlushContext)
	r, err := c.transmit(b)
	if err != nil {
		return fmt.Errorf("closing session %v: %w", s.handle, err)
	}
	_, _, err = splitResponse(info, tpm2.STNoSessions, r, nil)
	return err
}

// rollCaller draws a fresh nonceCaller, of the size that the session began with.
func (s *Session) rollCaller() {
	s.nonceCaller = s.nonceCaller[:len(s.nonceTPM)]
	rand.Read(s.nonceCaller)
}

// hmac is the authHMAC of Part 1, 16.6.5. auth is the authValue of a's entity
// at that moment.
func (s *Session) hmac(a *authorization, auth AuthValue, pHash, nonceNewer, nonceOlder []byte, attrs tpm2.SessionAttributes, extraNonces ...[]byte) []byte {
	key := append(make([]byte, 0, 128), s.key.Secret()...)
	if a.keyed {
		key = append(key, auth.Secret()...)
	}
	h := crypt.NewHMAC(s.hash, key)
	clear(key)
	h.Write(pHash)
	h.Write(nonceNewer)
	h.Write(nonceOlder)
	for _, n := range extraNonces {
		h.Write(n)
	}
	h.Write([]byte{byte(attrs)})
	return h.Sum(nil)
}

// wantsAuth reports whether the authValue of the entity goes into the HMAC key:
// not if the session is bound to just this entity with this authValue, and in a
// policy only with PolicyAuthValue. What holds for the command holds for its
// response, even where the command changes the authValue and so ends the binding:
// TPMs decide it once.
func (s *Session) wantsAuth(name []byte, auth AuthValue) bool {
	if s.typ != tpm2.SEHMAC {
		return s.needAuth
	}
	return s.bindName == nil || !bytes.Equal(s.bindName, name) || !s.bindAuth.equal(auth)
}

// crypt encrypts or decrypts a parameter in place (Part 1, 18). The authValue of
// the entity that the session authorizes counts, bound or not; an extra session has none.
func (s *Session) crypt(auth AuthValue, data []byte, response, encrypt bool) ([]byte, error) {
	newer, older := s.nonceCaller, s.nonceTPM
	if response {
		newer, older = older, newer
	}
	value := append(append(make([]byte, 0, 128), s.key.Secret()...), auth.Secret()...)
	defer clear(value)
	switch s.symmetric.Algorithm {
	case tpm2.AlgXOR:
		crypt.XORObfuscate(s.hash, value, newer, older, data)
	case tpm2.AlgAES:
		bits := int(s.symmetric.KeyBits.AES)
		if s.symmetric.Mode.AES != tpm2.AlgCFB || bits != 128 && bits != 192 && bits != 256 {
			return nil, fmt.Errorf("session %v: parameters are encrypted by AES-128, -192 or -256 in CFB mode only", s.handle)
		}
		k := crypt.KDFa(s.hash, value, "CFB", newer, older, bits+128)
		if encrypt {
			crypt.CFBEncrypt(k[:bits/8], k[bits/8:], data)
		} else {
			crypt.CFBDecrypt(k[:bits/8], k[bits/8:], data)
		}
		clear(k)
	default:
		return nil, fmt.Errorf("session %v has no algorithm to encrypt with", s.handle)
	}
	return data, nil
}
