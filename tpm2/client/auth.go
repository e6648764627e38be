package client

import (
	"bytes"
	"crypto/subtle"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// AuthValue is the secret that authorizes the use of an entity, or a key that
// came of one. It is a function so that no printing verb, log or encoder shows
// it; nil is the EmptyAuth. Make one with [Secret].
type AuthValue func() []byte

// Secret keeps a copy of b as an authValue. Trailing zero octets do not count
// (Part 1, 16.6.4.3).
func Secret(b []byte) AuthValue {
	b = bytes.Clone(crypt.Trim(b))
	if len(b) == 0 {
		return nil
	}
	return func() []byte { return b }
}

// Secret is the authValue itself. The caller must not change it.
func (a AuthValue) Secret() []byte {
	if a == nil {
		return nil
	}
	return a()
}

func (a AuthValue) equal(b AuthValue) bool {
	return subtle.ConstantTimeCompare(a.Secret(), b.Secret()) == 1
}

// Entity is something in a TPM that a handle refers to: an object, an NV index,
// a hierarchy or a PCR.
//
// Name is what authorizations are computed over (Part 1, 13). It may be nil:
// then the TPM is asked for it when a session needs it, and whoever sits
// between can answer with the Name of another entity. A Name that came with
// [Client.CreatePrimary], [Client.Load] or from a certificate says which one is meant.
//
// An Entity is an [Auth]: it authorizes by password, which goes to the TPM as it is.
type Entity struct {
	Handle tpm2.Handle
	Name   []byte
	Auth   AuthValue `json:"-"`
}

// Hierarchy is a hierarchy with its authValue, nil for none.
func Hierarchy(h tpm2.Handle, auth AuthValue) Entity { return Entity{Handle: h, Auth: auth} }

// PCR is a PCR as an entity; PCRs of a PC Client TPM have no authValue.
func PCR(n int) Entity { return Entity{Handle: tpm2.Handle(n)} }

// Auth is one authorization of a command, an extra session, or [About].
// The authorizations come in the order of the handles that need one.
type Auth interface{ authorization() authorization }

type authorization struct {
	entity  Entity
	session *Session // nil: password
	attrs   tpm2.SessionAttributes
	extra   bool     // authorizes nothing
	keyed   bool     // the authValue is in the HMAC key, of the command and of its response
	about   []Entity // instead of all the rest
}

func (e Entity) authorization() authorization {
	return authorization{entity: e, attrs: tpm2.ContinueSession}
}

// entityOf is the entity that a authorizes; the zero Entity for what authorizes none.
func entityOf(a Auth) Entity {
	if a == nil {
		return Entity{}
	}
	return a.authorization().entity
}

type about []Entity

func (a about) authorization() authorization { return authorization{about: a} }

// About tells Execute the Names of entities that a command uses without
// authorization, such as the index of [tpm2.NVRead], so that it need not ask.
func About(e ...Entity) Auth { return about(e) }

// SessionAuth is a session about to be used in a command.
type SessionAuth struct {
	session *Session
	entity  Entity
	attrs   tpm2.SessionAttributes
	extra   bool
}

func (a SessionAuth) authorization() authorization {
	return authorization{entity: a.entity, session: a.session, attrs: a.attrs, extra: a.extra}
}

// Once ends the session with this command, whether it succeeds or not.
func (a SessionAuth) Once() SessionAuth {
	a.attrs &^= tpm2.ContinueSession
	return a
}

// Auth uses the session to authorize e; attrs may add [tpm2.SessionDecrypt],
// [tpm2.SessionEncrypt], [tpm2.SessionAudit] and their kin.
func (s *Session) Auth(e Entity, attrs ...tpm2.SessionAttributes) SessionAuth {
	return SessionAuth{session: s, entity: e, attrs: join(attrs)}
}

// Extra adds the session to a command without authorizing anything by it: to
// encrypt its parameters or to audit it.
func (s *Session) Extra(attrs ...tpm2.SessionAttributes) SessionAuth {
	return SessionAuth{session: s, attrs: join(attrs), extra: true}
}

func join(attrs []tpm2.SessionAttributes) tpm2.SessionAttributes {
	out := tpm2.ContinueSession
	for _, a := range attrs {
		out |= a
	}
	return out
}
