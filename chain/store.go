package chain

import "bytes"

// Store is a set of certificates to look issuers up in: roots, or a pool of
// intermediates. It is read-only once built, so many checks may share it.
type Store struct {
	certs  []*Cert
	byName map[string][]*Cert
	byKey  map[string][]*Cert // by subject key identifier
	bySHA  map[[32]byte]*Cert
}

// NewRoots builds a store of trust anchors.
func NewRoots(certs []*Cert) *Store { return newStore(certs, fromRoots) }

// NewPool builds a store of intermediates.
func NewPool(certs []*Cert) *Store { return newStore(certs, fromPool) }

// newStore leaves damaged certificates out, and keeps one of several copies.
func newStore(certs []*Cert, from origin) *Store {
	s := &Store{byName: map[string][]*Cert{}, byKey: map[string][]*Cert{}, bySHA: map[[32]byte]*Cert{}}
	for _, c := range certs {
		if c.X == nil || s.bySHA[c.sha] != nil {
			continue
		}
		own := *c // a certificate may be in two stores
		c = &own
		c.origin, c.Index, c.Place = from, -1, nowhere
		s.bySHA[c.sha] = c
		s.certs = append(s.certs, c)
		s.byName[c.nameKeys[0]] = append(s.byName[c.nameKeys[0]], c)
		if len(c.ski) > 0 {
			s.byKey[string(c.ski)] = append(s.byKey[string(c.ski)], c)
		}
	}
	return s
}

// Len is the number of certificates.
func (s *Store) Len() int {
	if s == nil {
		return 0
	}
	return len(s.certs)
}

// Certs returns the certificates; the caller must not change the slice.
func (s *Store) Certs() []*Cert {
	if s == nil {
		return nil
	}
	return s.certs
}

func (s *Store) named(key string) []*Cert {
	if s == nil {
		return nil
	}
	return s.byName[key]
}

func (s *Store) keyed(id []byte) []*Cert {
	if s == nil || len(id) == 0 {
		return nil
	}
	return s.byKey[string(id)]
}

// holds says that c is a trust anchor here: RFC 5280, Section 6.1.1 (d) names
// an anchor by name and key, so another certificate for the same two is the
// same anchor.
func (s *Store) holds(c *Cert) *Cert {
	if s == nil {
		return nil
	}
	if own := s.bySHA[c.sha]; own != nil {
		return own
	}
	for _, r := range s.byName[c.nameKeys[0]] {
		if c.selfIssued() && bytes.Equal(r.spki, c.spki) && len(c.spki) > 0 {
			return r
		}
	}
	return nil
}
