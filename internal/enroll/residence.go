package enroll

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/statement"
)

// ResidenceType is the JWS type of residence statements.
const ResidenceType = "vouchsafe-residence+jws"

// Signer signs statements of this service.
type Signer struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // the signer's certificate first
}

// ResidenceStatement says where a vTPM lives and on what, for a short while. It
// is apart from the endorsement certificate, which must not say with whom a VM
// shares a host. Ids are opaque.
type ResidenceStatement struct {
	Service    string `json:"service"` // trust domain
	Tenant     string `json:"tenant"`
	VM         string `json:"vm"`   // id, as in the endorsement certificate
	Host       string `json:"host"` // id
	Tier       Tier   `json:"tier"`
	Generation int64  `json:"generation"`
	Lease      string `json:"lease"`
	// Measured and Carried are there when the tier is tpm-attested: what the host
	// booted, and the proof that its quote covers this vTPM in this generation,
	// which tells nothing of its neighbours.
	Measured *Measured            `json:"measured,omitempty"`
	Carried  *attest.CarriedProof `json:"carried,omitempty"`
	IssuedAt int64                `json:"iat"` // seconds since 1970, as in RFC 7519
	Expires  int64                `json:"exp"`
}

func (e *Enroller) residence(ctx context.Context, s Standing, h house) ([]byte, error) {
	signer, err := e.Residence(ctx)
	if err != nil {
		return nil, err
	}
	now := e.Clock.Wall()
	r := ResidenceStatement{
		Service: e.TrustDomain, Tenant: s.VM.Tenant, VM: s.VM.ID.String(), Host: h.ID.String(), Tier: h.tier,
		Generation: s.Lease.Generation, Lease: s.Lease.ID.String(), IssuedAt: now.Unix(), Expires: now.Add(LeaseTime).Unix(),
	}
	if h.standing != nil {
		r.Measured = &h.standing.measured
		// A lease that was just given is of a generation that no quote covers yet;
		// the host quotes again and renews.
		if at, ok := h.standing.at[s.VM.Name]; ok && at.generation == s.Lease.Generation {
			if r.Carried, err = h.standing.tree.Prove(at.index); err != nil {
				return nil, err
			}
		}
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ResidenceType, payload, signer.Key, signer.Chain...)
}

// clockSlack is how far the clocks of signer and reader may be apart.
const clockSlack = time.Minute

// ParseResidence verifies a residence statement against the service's root.
func ParseResidence(signed []byte, root *x509.Certificate, at time.Time) (ResidenceStatement, error) {
	var r ResidenceStatement
	payload, signer, err := statement.Verify(ResidenceType, signed, root, at)
	if err != nil {
		return r, err
	}
	// Every certificate of the service chains to its root, those of VMs too.
	if name, err := ca.NameOf(signer); err != nil || name.Kind != ca.KindService {
		return r, errors.New("the residence statement is not signed by the service")
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return r, fmt.Errorf("reading a residence statement: %w", err)
	}
	if at.Add(clockSlack).Unix() < r.IssuedAt || at.Add(-clockSlack).Unix() > r.Expires {
		return r, errors.New("the residence statement is not from now: it is renewed with the lease")
	}
	return r, nil
}
