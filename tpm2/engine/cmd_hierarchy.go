package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// createPrimary is TPM2_CreatePrimary (Part 3, 24.1).
func (t *TPM) createPrimary(c *call, in *tpm2.CreatePrimary, out *tpm2.CreatePrimaryResponse) tpm2.RC {
	if !t.slotFree() {
		return tpm2.RCObjectMemory
	}
	pub := &in.InPublic
	if rc := checkCreation(pub, nil, len(in.InSensitive.Data)); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	auth, rc := checkUserAuth(in.InSensitive.UserAuth, pub.NameAlg)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	h := in.PrimaryHandle
	sens, rc := generate(pub, t.primary(h, pub, in.InSensitive.Data), auth, in.InSensitive.Data)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	o := newObject(*pub, sens, h, nil)
	out.CreationData, out.CreationHash, out.CreationTicket = t.creation(o, nil, c.locality, in.OutsideInfo, in.CreationPCR)
	out.OutPublic, out.Name = o.pub, o.name
	out.ObjectHandle, rc = t.addObject(o)
	return rc
}

// hierarchyControl is TPM2_HierarchyControl (Part 3, 24.2).
func (t *TPM) hierarchyControl(_ *call, in *tpm2.HierarchyControl, _ *tpm2.HierarchyControlResponse) tpm2.RC {
	s := &t.ram.clear
	on := in.State == tpm2.Yes
	var sw *bool
	switch in.Enable {
	case tpm2.RHPlatform, tpm2.RHPlatformNV:
		if in.AuthHandle != tpm2.RHPlatform {
			return tpm2.RCAuthType
		}
		if sw = &s.phEnable; in.Enable == tpm2.RHPlatformNV {
			sw = &s.phEnableNV
		}
	case tpm2.RHOwner, tpm2.RHEndorsement:
		if sw = &s.shEnable; in.Enable == tpm2.RHEndorsement {
			sw = &s.ehEnable
		}
		// Its owner may switch a hierarchy off; only the platform switches it on.
		if in.AuthHandle != tpm2.RHPlatform && (in.AuthHandle != in.Enable || on && !*sw) {
			return tpm2.RCAuthType
		}
	default:
		return tpm2.RCAuthType
	}
	if *sw == on {
		return tpm2.RCSuccess
	}
	*sw = on
	if !on && in.Enable != tpm2.RHPlatformNV {
		t.flushHierarchy(in.Enable)
		t.endAuths(in.Enable)
	}
	return tpm2.RCSuccess
}

// endAuths notes that an entity the command was authorized with is gone: the
// response is made without its authValue.
func (t *TPM) endAuths(h tpm2.Handle) {
	for i := range t.call.auths {
		if t.call.auths[i].entity == h && h != tpm2.RHNull {
			t.call.auths[i].ended = true
		}
	}
}

// setPrimaryPolicy is TPM2_SetPrimaryPolicy (Part 3, 24.3).
func (t *TPM) setPrimaryPolicy(_ *call, in *tpm2.SetPrimaryPolicy, _ *tpm2.SetPrimaryPolicyResponse) tpm2.RC {
	if len(in.AuthPolicy) != in.HashAlg.DigestSize() {
		return tpm2.RCSize.Param(1)
	}
	p := authPolicy{in.HashAlg, slices.Clone(in.AuthPolicy)}
	switch in.AuthHandle {
	case tpm2.RHOwner:
		t.w().ownerPolicy = p
	case tpm2.RHEndorsement:
		t.w().endorsementPolicy = p
	case tpm2.RHLockout:
		t.w().lockoutPolicy = p
	case tpm2.RHPlatform:
		t.ram.clear.platformPolicy = p
	}
	return tpm2.RCSuccess
}

// changePPS is TPM2_ChangePPS (Part 3, 24.4).
func (t *TPM) changePPS(*call, *tpm2.ChangePPS, *tpm2.ChangePPSResponse) tpm2.RC {
	nv := t.w()
	nv.pp, nv.phProof = t.newSeed(), t.rng.bytes(proofSize)
	nv.persistent = withoutHierarchy(nv.persistent, tpm2.RHPlatform)
	nv.pcrPolicy = noPolicy // (Part 3, 22.6.1)
	if rc := t.commit(); rc != tpm2.RCSuccess {
		return rc
	}
	t.flushHierarchy(tpm2.RHPlatform)
	t.ram.clear.platformPolicy = noPolicy
	return tpm2.RCSuccess
}

// changeEPS is TPM2_ChangeEPS (Part 3, 24.5).
func (t *TPM) changeEPS(*call, *tpm2.ChangeEPS, *tpm2.ChangeEPSResponse) tpm2.RC {
	nv := t.w()
	nv.ep, nv.ehProof = t.newSeed(), t.rng.bytes(proofSize)
	nv.persistent = withoutHierarchy(nv.persistent, tpm2.RHEndorsement)
	nv.endorsementAuth, nv.endorsementPolicy = nil, noPolicy
	if rc := t.commit(); rc != tpm2.RCSuccess {
		return rc
	}
	t.flushHierarchy(tpm2.RHEndorsement)
	t.ram.clear.ehEnable = true
	return tpm2.RCSuccess
}

func withoutHierarchy(list []*object, h tpm2.Handle) (out []*object) {
	for _, o := range list {
		if o.hierarchy != h {
			out = append(out, o)
		}
	}
	return out
}

// clear is TPM2_Clear (Part 3, 24.6): the owner's world ends.
func (t *TPM) clear(*call, *tpm2.Clear, *tpm2.ClearResponse) tpm2.RC {
	if t.n().disableClear {
		return tpm2.RCDisabled
	}
	nv := t.w()
	nv.sp, nv.shProof, nv.ehProof = t.newSeed(), t.rng.bytes(proofSize), t.rng.bytes(proofSize)
	nv.persistent = withoutHierarchy(withoutHierarchy(nv.persistent, tpm2.RHOwner), tpm2.RHEndorsement)
	var keep []*nvIndex
	for _, x := range nv.indexes {
		if x.has(tpm2.NVPlatformCreate) {
			keep = append(keep, x)
		} else {
			nv.rememberCounter(x)
		}
	}
	nv.indexes = keep
	nv.ownerAuth, nv.endorsementAuth, nv.lockoutAuth = nil, nil, nil
	nv.ownerPolicy, nv.endorsementPolicy, nv.lockoutPolicy = noPolicy, noPolicy, noPolicy
	nv.failedTries, nv.lockoutAuthDisabled = 0, false
	nv.maxTries, nv.recoveryTime, nv.lockoutRecovery = daMaxTries, daRecovery, daRecovery // a new owner's (Part 1, 16.8.2)
	nv.resetCount, nv.restartCount = 0, 0
	nv.clockSafe = true
	was := t.clock()
	t.rebase(t.time(), 0) // Clock begins at zero
	if rc := t.commit(); rc != tpm2.RCSuccess {
		t.rebase(t.time(), was)
		return rc
	}
	t.flushHierarchy(tpm2.RHOwner)
	t.flushHierarchy(tpm2.RHEndorsement)
	t.ram.clear.shEnable, t.ram.clear.ehEnable = true, true
	t.ram.clear.pcrAuth = nil // (Part 3, 22.7.1)
	t.ram.reset.pcrCounter++
	return tpm2.RCSuccess
}

// clearControl is TPM2_ClearControl (Part 3, 24.7).
func (t *TPM) clearControl(_ *call, in *tpm2.ClearControl, _ *tpm2.ClearControlResponse) tpm2.RC {
	if in.Auth == tpm2.RHLockout && in.Disable == tpm2.No {
		return tpm2.RCAuthFail // lockout may forbid; only the platform may permit again
	}
	t.w().disableClear = in.Disable == tpm2.Yes
	return tpm2.RCSuccess
}

// hierarchyChangeAuth is TPM2_HierarchyChangeAuth (Part 3, 24.8).
func (t *TPM) hierarchyChangeAuth(_ *call, in *tpm2.HierarchyChangeAuth, _ *tpm2.HierarchyChangeAuthResponse) tpm2.RC {
	auth, rc := checkUserAuth(in.NewAuth, ticketHash)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	auth = slices.Clone(auth)
	switch in.AuthHandle {
	case tpm2.RHOwner:
		t.w().ownerAuth = auth
	case tpm2.RHEndorsement:
		t.w().endorsementAuth = auth
	case tpm2.RHLockout:
		t.w().lockoutAuth = auth
	case tpm2.RHPlatform:
		t.ram.clear.platformAuth = auth
	}
	return tpm2.RCSuccess
}

// dictionaryAttackLockReset is TPM2_DictionaryAttackLockReset (Part 3, 25.2). With
// lockoutPolicy it gives the use of lockoutAuth back as well (Part 1, 16.8.5),
// which libtpms 0.9 does not.
func (t *TPM) dictionaryAttackLockReset(*call, *tpm2.DictionaryAttackLockReset, *tpm2.DictionaryAttackLockResetResponse) tpm2.RC {
	nv := t.w()
	nv.failedTries, nv.lockoutAuthDisabled = 0, false
	return tpm2.RCSuccess
}

// dictionaryAttackParameters is TPM2_DictionaryAttackParameters (Part 3, 25.3).
func (t *TPM) dictionaryAttackParameters(_ *call, in *tpm2.DictionaryAttackParameters, _ *tpm2.DictionaryAttackParametersResponse) tpm2.RC {
	nv := t.w()
	nv.maxTries, nv.recoveryTime, nv.lockoutRecovery = in.NewMaxTries, in.NewRecoveryTime, in.LockoutRecovery
	t.ram.daAt = t.time()
	return tpm2.RCSuccess
}
