package client

import "github.com/vouchsafe/vouchsafe/tpm2"

// ChangeAuth gives a hierarchy another authValue; by authorizes with the old
// one. The new one crosses the wire as it is, unless a session decrypts.
func (c *Client) ChangeAuth(by Auth, auth AuthValue, extra ...Auth) (Entity, error) {
	e := entityOf(by)
	err := c.Execute(&tpm2.HierarchyChangeAuth{AuthHandle: e.Handle, NewAuth: auth.Secret()}, nil, with(extra, by)...)
	if err != nil {
		return e, err
	}
	e.Auth = auth
	return e, nil
}

// Clear takes ownership away: all objects and indices of the Owner are gone, its
// seeds are new. by authorizes for Lockout or the Platform.
func (c *Client) Clear(by Auth, extra ...Auth) error {
	return c.Execute(&tpm2.Clear{AuthHandle: entityOf(by).Handle}, nil, with(extra, by)...)
}

// ResetLockout forgets wrong authorizations; by authorizes for Lockout.
func (c *Client) ResetLockout(by Auth, extra ...Auth) error {
	return c.Execute(&tpm2.DictionaryAttackLockReset{LockHandle: entityOf(by).Handle}, nil, with(extra, by)...)
}

// AllocateBanks says which PCR banks the TPM has after its next reset: those of
// algs with all PCRs, and no other. platform authorizes.
func (c *Client) AllocateBanks(platform Auth, algs ...tpm2.AlgID) (bool, error) {
	var rsp tpm2.GetCapabilityResponse // says of every bank there could be whether it is used
	if err := c.Execute(&tpm2.GetCapability{Capability: tpm2.CapPCRs, PropertyCount: 1}, &rsp); err != nil {
		return false, err
	}
	sel := rsp.CapabilityData.Data.AssignedPCR
	for i := range sel {
		clear(sel[i].PCRSelect)
	}
	for _, a := range algs {
		all := tpm2.TPMSPCRSelection{Hash: a, PCRSelect: []byte{0xff, 0xff, 0xff}}
		found := false
		for i := range sel {
			if sel[i].Hash == a {
				sel[i], found = all, true
			}
		}
		if !found { // the TPM knows best whether it has it
			sel = append(sel, all)
		}
	}
	var done tpm2.PCRAllocateResponse
	err := c.Execute(&tpm2.PCRAllocate{AuthHandle: entityOf(platform).Handle, PCRAllocation: sel}, &done, platform)
	return done.AllocationSuccess == tpm2.Yes, err
}

// ReadClock returns the TPM's time, clock and counters of resets.
func (c *Client) ReadClock(extra ...Auth) (*tpm2.TPMSTimeInfo, error) {
	var rsp tpm2.ReadClockResponse
	if err := c.Execute(&tpm2.ReadClock{}, &rsp, extra...); err != nil {
		return nil, err
	}
	return &rsp.CurrentTime, nil
}
