package client

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Startup starts the TPM, as firmware does. A TPM that runs already says
// TPM_RC_INITIALIZE, which is no error here.
func (c *Client) Startup(su tpm2.SU) error {
	err := c.Execute(&tpm2.Startup{StartupType: su}, nil)
	if ce, ok := err.(*CommandError); ok && ce.RC == tpm2.RCInitialize {
		return nil
	}
	return err
}

// Shutdown prepares the TPM for the loss of power.
func (c *Client) Shutdown(su tpm2.SU) error { return c.Execute(&tpm2.Shutdown{ShutdownType: su}, nil) }

// GetRandom returns n octets from the TPM's generator.
func (c *Client) GetRandom(n int, extra ...Auth) ([]byte, error) {
	out := make([]byte, 0, max(n, 0))
	for rounds := 0; len(out) < n; rounds++ {
		var rsp tpm2.GetRandomResponse
		want := min(n-len(out), randomChunk)
		if err := c.Execute(&tpm2.GetRandom{BytesRequested: uint16(want)}, &rsp, extra...); err != nil {
			return nil, err
		}
		if got := len(rsp.RandomBytes); got == 0 || got > want {
			return nil, fmt.Errorf("TPM2_GetRandom: %w: %d octets for the %d asked for", ErrResponse, got, want)
		}
		out = append(out, rsp.RandomBytes...)
	}
	return out, nil
}

// capability asks for everything from first on; add takes one answer in and
// says where to go on, and how many it was.
func (c *Client) capability(what tpm2.CAP, first uint32, add func(*tpm2.TPMUCapabilities) (next uint32, n int)) error {
	for range maxRounds {
		var rsp tpm2.GetCapabilityResponse
		if err := c.Execute(&tpm2.GetCapability{Capability: what, Property: first, PropertyCount: maxCapabilities}, &rsp); err != nil {
			return err
		}
		if rsp.CapabilityData.Capability != what {
			return fmt.Errorf("TPM2_GetCapability: %w: it answers about capability %d, not %d", ErrResponse, rsp.CapabilityData.Capability, what)
		}
		next, n := add(&rsp.CapabilityData.Data)
		if rsp.MoreData == tpm2.No {
			return nil
		}
		if n == 0 || next <= first {
			return fmt.Errorf("TPM2_GetCapability: %w: it says there is more and does not go on", ErrResponse)
		}
		first = next
	}
	return fmt.Errorf("TPM2_GetCapability: %w: it never ends", ErrResponse)
}

// Properties returns all TPM properties from first to the end of its group:
// [tpm2.PTFamilyIndicator] for the fixed ones, [tpm2.PTPermanent] for the rest.
func (c *Client) Properties(first tpm2.PT) (map[tpm2.PT]uint32, error) {
	out := map[tpm2.PT]uint32{}
	end := first&^0xff + 0x100
	err := c.capability(tpm2.CapTPMProperties, uint32(first), func(d *tpm2.TPMUCapabilities) (next uint32, n int) {
		for _, p := range d.TPMProperties {
			if p.Property < end {
				out[p.Property] = p.Value
			}
			next = uint32(p.Property) + 1
		}
		return next, len(d.TPMProperties)
	})
	return out, err
}

// Property returns one TPM property, and whether the TPM has it.
func (c *Client) Property(p tpm2.PT) (uint32, bool, error) {
	var rsp tpm2.GetCapabilityResponse
	err := c.Execute(&tpm2.GetCapability{Capability: tpm2.CapTPMProperties, Property: uint32(p), PropertyCount: 1}, &rsp)
	if err != nil {
		return 0, false, err
	}
	for _, t := range rsp.CapabilityData.Data.TPMProperties {
		if t.Property == p {
			return t.Value, true, nil
		}
	}
	return 0, false, nil
}

// Handles lists the handles of one kind that are in use.
func (c *Client) Handles(space tpm2.HandleSpace) ([]tpm2.Handle, error) {
	var out []tpm2.Handle
	first := uint32(space) << 24
	err := c.capability(tpm2.CapHandles, first, func(d *tpm2.TPMUCapabilities) (next uint32, n int) {
		for _, h := range d.Handles {
			out = append(out, h)
			next = uint32(h) + 1
		}
		return next, len(d.Handles)
	})
	return out, err
}

// Commands lists the commands that the TPM has, with their attributes.
func (c *Client) Commands() ([]tpm2.CCAttributes, error) {
	var out []tpm2.CCAttributes
	err := c.capability(tpm2.CapCommands, 0, func(d *tpm2.TPMUCapabilities) (next uint32, n int) {
		for _, a := range d.Command {
			out = append(out, a)
			next = uint32(a)&0xffff + 1
		}
		return next, len(d.Command)
	})
	return out, err
}

// Has reports whether the TPM has a command.
func (c *Client) Has(cc tpm2.CC) (bool, error) {
	var rsp tpm2.GetCapabilityResponse
	err := c.Execute(&tpm2.GetCapability{Capability: tpm2.CapCommands, Property: uint32(cc), PropertyCount: 1}, &rsp)
	if err != nil {
		return false, err
	}
	got := rsp.CapabilityData.Data.Command
	return len(got) > 0 && uint32(got[0])&0xffff == uint32(cc), nil
}

// Algorithms lists the algorithms that the TPM has.
func (c *Client) Algorithms() (map[tpm2.AlgID]tpm2.AlgAttributes, error) {
	out := map[tpm2.AlgID]tpm2.AlgAttributes{}
	err := c.capability(tpm2.CapAlgs, 0, func(d *tpm2.TPMUCapabilities) (next uint32, n int) {
		for _, a := range d.Algorithms {
			out[a.Alg] = a.AlgProperties
			next = uint32(a.Alg) + 1
		}
		return next, len(d.Algorithms)
	})
	return out, err
}

// Curves lists the elliptic curves that the TPM has.
func (c *Client) Curves() ([]tpm2.ECCCurve, error) {
	var out []tpm2.ECCCurve
	err := c.capability(tpm2.CapECCCurves, 0, func(d *tpm2.TPMUCapabilities) (next uint32, n int) {
		for _, id := range d.ECCCurves {
			out = append(out, id)
			next = uint32(id) + 1
		}
		return next, len(d.ECCCurves)
	})
	return out, err
}
