package host

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// prove sends this machine's evidence: a quote over its boot, the nonce, the
// connection, and the root of the tree over all vTPMs here, in the generation in
// which each is. Without a TPM there is nothing to prove.
func (h *Host) prove(ctx context.Context) error {
	if h.TPM == nil {
		return nil
	}
	h.proving.Lock()
	defer h.proving.Unlock()
	return h.proveNow(ctx)
}

// proveSince proves this machine unless that was done after so many quotes: many
// vTPMs that were refused at once wait for one.
func (h *Host) proveSince(ctx context.Context, quotes int64) error {
	h.proving.Lock()
	defer h.proving.Unlock()
	if h.quotes.Load() > quotes {
		return nil
	}
	return h.proveNow(ctx)
}

// cover proves this machine unless the last quote covers a vTPM as it is now.
// Many that start at once wait for one quote, not for one each.
func (h *Host) cover(ctx context.Context, c *carrier) error {
	if h.TPM == nil {
		return nil
	}
	h.proving.Lock()
	defer h.proving.Unlock()
	if generation := c.state.At(); elapsed() < h.proved.until && (generation == 0 || h.proved.at[c.vm] == generation) {
		return nil
	}
	return h.proveNow(ctx)
}

// proveNow is called with h.proving held.
func (h *Host) proveNow(ctx context.Context) error {
	start := elapsed()
	carried, err := h.list()
	if err != nil {
		return err
	}
	s, err := h.Service(ctx)
	if err != nil {
		return err
	}
	got, err := Prove(ctx, s, h.TPM, h.EventLog, carried)
	if err != nil {
		return err
	}
	h.passed.Store(&got.Pass)
	h.quotes.Add(1)
	// Half of its time: a lease that is asked for now must find it fresh.
	h.proved = proved{until: start + time.Duration(got.Seconds)*time.Second/2, at: map[string]int64{}}
	for _, c := range carried {
		h.proved.at[c.VM] = c.Generation
	}
	return nil
}

// pass is what the service gave to whoever proved itself last, nil without a TPM.
// It is in memory only.
func (h *Host) pass() []byte {
	if p := h.passed.Load(); p != nil {
		return *p
	}
	return nil
}

// proved is what the last quote covers.
type proved struct {
	until time.Duration // on elapsed
	at    map[string]int64
}

// Carried is a vTPM that a host's quote speaks for.
type Carried struct {
	VM string
	attest.Carried
}

// list is what this host carries, in the order of the tree's leaves.
func (h *Host) list() ([]Carried, error) {
	all := h.running()
	slices.SortFunc(all, func(a, b *carrier) int { return strings.Compare(a.vm, b.vm) })
	var out []Carried
	for _, c := range all {
		generation := c.state.At()
		if generation == 0 {
			continue
		}
		name, err := admission.EKName(c.state.EKPublic)
		if err != nil {
			return nil, fmt.Errorf("the endorsement key of %s: %w", c.vm, err)
		}
		out = append(out, Carried{c.vm, attest.Carried{EKName: name, Generation: generation}})
	}
	return out, nil
}

// covers is what the quote signs of them: the root of the tree.
func covers(all []Carried) ([]byte, error) {
	leaves := make([]attest.Carried, len(all))
	for i, c := range all {
		leaves[i] = c.Carried
	}
	tree, err := attest.NewCarriedTree(leaves)
	if err != nil {
		return nil, err
	}
	return tree.Root()
}

// Prove sends a host's evidence for the vTPMs that it carries, none at first,
// and returns the verdict.
func Prove(ctx context.Context, s attester.Service, tpm *client.Client, eventLog func() ([]byte, error), carried []Carried) (hosting.Attested, error) {
	var out hosting.Attested
	self, err := s.Self()
	if err != nil {
		return out, err
	}
	root, err := covers(carried)
	if err != nil {
		return out, err
	}
	log, err := eventLog()
	if err != nil {
		return out, fmt.Errorf("reading this machine's event log: %w", err)
	}
	conn, err := s.Connect(ctx)
	if err != nil {
		return out, err
	}
	defer conn.Close()
	proof, err := attester.New(tpm)
	if err != nil {
		return out, err
	}
	defer proof.Close()
	path := "/v1/hosts/" + url.PathEscape(self.Name)
	var ch admission.Challenge
	if err := conn.Call(ctx, "POST", path+"/challenge", proof.Ask(), &ch); err != nil {
		return out, err
	}
	if err := proof.Answer(&ch); err != nil {
		return out, err
	}
	binding := attest.Binding{Nonce: ch.Nonce, Tenant: self.Tenant, VM: self.Name, Purpose: hosting.Purpose, Exporter: conn.Exporter, Covers: root}
	if _, err := proof.Sign(binding, nil, attest.BootPCRs()); err != nil {
		return out, err
	}
	ev := hosting.Evidence{Nonce: ch.Nonce, Carried: []hosting.Carried{}, Items: append(proof.Items, attest.Item{Type: attest.TCGEventLog, Data: log})}
	for _, c := range carried {
		ev.Carried = append(ev.Carried, hosting.Carried{VM: c.VM, Generation: c.Generation})
	}
	return out, conn.Call(ctx, "POST", path+"/evidence", ev, &out)
}
