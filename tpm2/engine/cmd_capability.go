package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// maxCapBuffer bounds what one TPM2_GetCapability returns (MAX_CAP_BUFFER).
const maxCapBuffer = 1024

// How many of each fit into maxCapBuffer after capability and count (Part 2, 10.9).
const (
	capRoom       = maxCapBuffer - 4 - 4
	maxCapHandles = capRoom / 4
	maxCapCC      = capRoom / 4
	maxCapAlgs    = capRoom / 6
	maxCapProps   = capRoom / 8
	maxCapPCRs    = capRoom / 8
)

// page cuts the values that come at or after a first one to at most n, and says whether more are left.
func page[T any](all []T, n uint32, limit int, key func(T) uint32, from uint32) ([]T, tpm2.YesNo) {
	i := 0
	for i < len(all) && key(all[i]) < from {
		i++
	}
	all = all[i:]
	most := int(min(n, uint32(limit)))
	if len(all) > most {
		return all[:most], tpm2.Yes
	}
	return all, tpm2.No
}

// group is the properties of the one group, fixed or variable, that from is in (Part 3, 30.2.1).
func group(all []tpm2.TPMSTaggedProperty, from uint32) []tpm2.TPMSTaggedProperty {
	want := max(from&^0xff, uint32(tpm2.PTFamilyIndicator))
	return slices.DeleteFunc(all, func(p tpm2.TPMSTaggedProperty) bool { return uint32(p.Property)&^0xff != want })
}

// getCapability is TPM2_GetCapability (Part 3, 30.2).
func (t *TPM) getCapability(_ *call, in *tpm2.GetCapability, out *tpm2.GetCapabilityResponse) tpm2.RC {
	d := &out.CapabilityData.Data
	out.CapabilityData.Capability = in.Capability
	from, n := in.Property, in.PropertyCount
	switch in.Capability {
	case tpm2.CapAlgs:
		d.Algorithms, out.MoreData = page(t.algorithms(), n, maxCapAlgs, func(a tpm2.TPMSAlgProperty) uint32 { return uint32(a.Alg) }, from)
	case tpm2.CapHandles:
		list, ok := t.handles(tpm2.Handle(from))
		if !ok {
			return tpm2.RCHandle.Param(2)
		}
		d.Handles, out.MoreData = page(list, n, maxCapHandles, inSpace, inSpace(tpm2.Handle(from)))
	case tpm2.CapCommands:
		d.Command, out.MoreData = page(commandList(), n, maxCapCC, func(a tpm2.CCAttributes) uint32 { return uint32(a & 0xffff) }, from)
	case tpm2.CapPPCommands:
		d.PPCommands, out.MoreData = page(t.n().ppCommands, n, maxCapCC, func(c tpm2.CC) uint32 { return uint32(c) }, from)
	case tpm2.CapAuditCommands:
		d.AuditCommands, out.MoreData = page(t.n().audited, n, maxCapCC, func(c tpm2.CC) uint32 { return uint32(c) }, from)
	case tpm2.CapPCRs:
		if from != 0 {
			return tpm2.RCValue.Param(2)
		}
		if n == 0 {
			out.MoreData = tpm2.Yes
			break
		}
		d.AssignedPCR = t.assignedPCRs()
	case tpm2.CapTPMProperties:
		d.TPMProperties, out.MoreData = page(group(t.properties(), from), n, maxCapProps, func(p tpm2.TPMSTaggedProperty) uint32 { return uint32(p.Property) }, from)
	case tpm2.CapPCRProperties:
		d.PCRProperties, out.MoreData = page(pcrProperties, n, maxCapPCRs, func(p tpm2.TPMSTaggedPCRSelect) uint32 { return uint32(p.Tag) }, from)
	case tpm2.CapECCCurves:
		d.ECCCurves, out.MoreData = page(curves, n, capRoom/2, func(c tpm2.ECCCurve) uint32 { return uint32(c) }, from)
	case tpm2.CapAuthPolicies:
		if tpm2.Handle(from).Space() != tpm2.HTPermanent {
			return tpm2.RCValue.Param(2)
		}
		d.AuthPolicies, out.MoreData = page(t.authPolicies(), n, capRoom/(4+2+maxDigest), func(p tpm2.TPMSTaggedPolicy) uint32 { return uint32(p.Handle) }, from)
	default:
		return tpm2.RCValue.Param(1)
	}
	return tpm2.RCSuccess
}

var curves = []tpm2.ECCCurve{tpm2.ECCNISTP256, tpm2.ECCNISTP384, tpm2.ECCNISTP521}

// algorithms lists what the TPM has, by identifier.
func (t *TPM) algorithms() (out []tpm2.TPMSAlgProperty) {
	for a, attributes := range algorithms {
		if t.implements(tpm2.AlgID(a)) {
			out = append(out, tpm2.TPMSAlgProperty{Alg: tpm2.AlgID(a), AlgProperties: attributes})
		}
	}
	return out
}

// commandList is TPMA_CC of every command, by code.
func commandList() (out []tpm2.CCAttributes) {
	for i := range commands {
		out = append(out, commands[i].info.Attributes())
	}
	return out
}

// mlParameterSets are all but ML-KEM-512 and external Mu (Part 2, 8.13).
func (t *TPM) mlParameterSets() uint32 {
	if !t.implements(tpm2.AlgMLKEM) {
		return 0
	}
	return 0x3e
}

// inSpace is the number of a handle among those of its space, by which
// TPM2_GetCapability counts: sessions of both kinds share their numbers.
func inSpace(h tpm2.Handle) uint32 { return uint32(h) & 0xffffff }

// handles lists the handles in use of the space that first is in (Part 3, 30.2.1).
func (t *TPM) handles(first tpm2.Handle) (out []tpm2.Handle, ok bool) {
	switch first.Space() {
	case tpm2.HTPCR:
		for h := range tpm2.Handle(tpm2.PCRCount) {
			out = append(out, h)
		}
	case tpm2.HTNVIndex:
		for _, x := range t.n().indexes {
			out = append(out, x.pub.NVIndex)
		}
	case tpm2.HTHMACSession: // loaded sessions of both kinds, each by its own handle: it can be flushed
		for _, s := range t.ram.sessions {
			if s != nil {
				out = append(out, s.handle)
			}
		}
	case tpm2.HTPolicySession: // saved sessions, of which the kind is not told
		for i, seq := range t.ram.reset.savedAt {
			if seq != 0 {
				out = append(out, tpm2.HMACSessionFirst|tpm2.Handle(i))
			}
		}
	case tpm2.HTPermanent:
		return []tpm2.Handle{tpm2.RHOwner, tpm2.RHNull, tpm2.RSPW, tpm2.RHLockout, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHPlatformNV}, true
	case tpm2.HTTransient:
		for i, o := range t.ram.objects {
			if o != nil {
				out = append(out, tpm2.TransientFirst+tpm2.Handle(i))
			}
		}
	case tpm2.HTPersistent:
		for _, o := range t.n().persistent {
			out = append(out, o.handle)
		}
	default:
		return nil, false
	}
	return out, true
}

// assignedPCRs says which banks are allocated; one that is not has nothing selected.
func (t *TPM) assignedPCRs() (out []tpm2.TPMSPCRSelection) {
	for _, alg := range bankAlgs {
		s := tpm2.TPMSPCRSelection{Hash: alg, PCRSelect: make([]byte, tpm2.PCRCount/8)}
		if t.bank(alg) != nil {
			fill(s.PCRSelect, 0xff)
		}
		out = append(out, s)
	}
	return out
}

func (t *TPM) authPolicies() (out []tpm2.TPMSTaggedPolicy) {
	for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHLockout, tpm2.RHEndorsement, tpm2.RHPlatform} {
		p := t.policyOf(h)
		out = append(out, tpm2.TPMSTaggedPolicy{Handle: h, PolicyHash: tpm2.TPMTHA{HashAlg: p.alg, Digest: p.digest}})
	}
	return out
}

// pcrProperties are the PCR attributes as TPM_PT_PCR sets them out, a bit a PCR (Part 2, 6.14).
var pcrProperties = func() []tpm2.TPMSTaggedPCRSelect {
	set := func(tag tpm2.PTPCR, is func(pcrAttributes) bool) tpm2.TPMSTaggedPCRSelect {
		sel := make([]byte, tpm2.PCRCount/8)
		for n, a := range pcrs {
			if is(a) {
				sel[n/8] |= 1 << (n % 8)
			}
		}
		return tpm2.TPMSTaggedPCRSelect{Tag: tag, PCRSelect: sel}
	}
	group := func(tag tpm2.PTPCR) tpm2.TPMSTaggedPCRSelect {
		s := set(tag, func(pcrAttributes) bool { return false })
		for n := range tpm2.Handle(tpm2.PCRCount) {
			if pcrAuthorized(n) {
				s.PCRSelect[n/8] |= 1 << (n % 8)
			}
		}
		return s
	}
	out := []tpm2.TPMSTaggedPCRSelect{set(tpm2.PTPCRSave, func(a pcrAttributes) bool { return a.save })}
	for l := range 5 {
		out = append(out,
			set(tpm2.PTPCRExtendL0+tpm2.PTPCR(2*l), func(a pcrAttributes) bool { return a.extend>>l&1 != 0 }),
			set(tpm2.PTPCRResetL0+tpm2.PTPCR(2*l), func(a pcrAttributes) bool { return a.reset>>l&1 != 0 }))
	}
	return append(out,
		set(tpm2.PTPCRNoIncrement, func(a pcrAttributes) bool { return a.noIncrement }),
		set(tpm2.PTPCRDRTMReset, func(a pcrAttributes) bool { return a.drtm }),
		group(tpm2.PTPCRPolicy),
		group(tpm2.PTPCRAuth))
}()

// word is up to four characters as TPM_PT_ values hold them.
func word(s string, n int) uint32 {
	var v uint32
	for i := range 4 {
		v <<= 8
		if 4*n+i < len(s) {
			v |= uint32(s[4*n+i])
		}
	}
	return v
}

// properties are the TPM_PT values, fixed and variable, by number (Part 2, 6.13).
func (t *TPM) properties() []tpm2.TPMSTaggedProperty {
	nv := t.n()
	var out []tpm2.TPMSTaggedProperty
	add := func(p tpm2.PT, v uint32) { out = append(out, tpm2.TPMSTaggedProperty{Property: p, Value: v}) }
	add(tpm2.PTFamilyIndicator, word("2.0", 0))
	add(tpm2.PTLevel, specLevel)
	add(tpm2.PTRevision, specVersion)
	add(tpm2.PTErrata, 0) // TPM_PT_DAY_OF_YEAR before v1.83
	add(tpm2.PTYear, 0)
	add(tpm2.PTManufacturer, Manufacturer)
	for i := range 4 {
		add(tpm2.PTVendorString1+tpm2.PT(i), word(VendorString, i))
	}
	add(tpm2.PTVendorTPMType, 1)
	add(tpm2.PTFirmwareVersion1, uint32(FirmwareVersion>>32))
	add(tpm2.PTFirmwareVersion2, uint32(FirmwareVersion&0xffffffff))
	add(tpm2.PTInputBuffer, maxBuffer)
	add(tpm2.PTHRTransientMin, maxTransient)
	add(tpm2.PTHRPersistentMin, maxPersistent)
	add(tpm2.PTHRLoadedMin, maxLoaded)
	add(tpm2.PTActiveSessionsMax, maxSessions)
	add(tpm2.PTPCRCount, tpm2.PCRCount)
	add(tpm2.PTPCRSelectMin, tpm2.PCRCount/8)
	add(tpm2.PTContextGapMax, ^uint32(0)) // contexts are numbered in 64 bits: there is no gap
	add(tpm2.PTNVCountersMax, 0)
	add(tpm2.PTNVIndexMax, tpm2.MaxNVIndexSize)
	add(tpm2.PTMemory, 6) // objects are copied to and from NV, and share no memory with sessions
	add(tpm2.PTClockUpdate, clockUpdate)
	add(tpm2.PTContextHash, uint32(tpm2.AlgSHA512))
	add(tpm2.PTContextSym, uint32(tpm2.AlgAES))
	add(tpm2.PTContextSymSize, 256)
	add(tpm2.PTOrderlyCount, 255)
	add(tpm2.PTMaxCommandSize, uint32(t.buffer()))
	add(tpm2.PTMaxResponseSize, uint32(t.buffer()))
	add(tpm2.PTMaxDigest, maxDigest)
	add(tpm2.PTMaxObjectContext, maxObjectContext)
	add(tpm2.PTMaxSessionContext, maxSessionContext)
	add(tpm2.PTPSFamilyIndicator, 1) // PC Client
	add(tpm2.PTPSLevel, 0)
	add(tpm2.PTPSRevision, 0x105) // PTP 1.05
	add(tpm2.PTPSDayOfYear, 0)
	add(tpm2.PTPSYear, 0)
	add(tpm2.PTSplitMax, maxCommits)
	add(tpm2.PTTotalCommands, uint32(len(commands)))
	add(tpm2.PTLibraryCommands, uint32(len(commands)))
	add(tpm2.PTVendorCommands, 0)
	add(tpm2.PTNVBufferMax, maxNVBuffer)
	add(tpm2.PTModes, 0)
	add(tpm2.PTMaxCapBuffer, maxCapBuffer)
	add(tpm2.PTMLParameterSets, t.mlParameterSets())

	add(tpm2.PTPermanent, t.permanentAttributes())
	add(tpm2.PTStartupClear, t.startupClearAttributes())
	loaded, active, free := t.sessionCounts()
	objects := 0
	for _, o := range t.ram.objects {
		if o != nil {
			objects++
		}
	}
	counters := uint32(0)
	for _, x := range nv.indexes {
		if x.pub.Attributes.Type() == tpm2.NTCounter {
			counters++
		}
	}
	add(tpm2.PTHRNVIndex, uint32(len(nv.indexes)))
	add(tpm2.PTHRLoaded, loaded)
	add(tpm2.PTHRLoadedAvail, free)
	add(tpm2.PTHRActive, active)
	add(tpm2.PTHRActiveAvail, free)
	add(tpm2.PTHRTransientAvail, uint32(maxTransient-objects))
	add(tpm2.PTHRPersistent, uint32(len(nv.persistent)))
	add(tpm2.PTHRPersistentAvail, uint32(max(0, maxPersistent-len(nv.persistent))))
	add(tpm2.PTNVCounters, counters)
	add(tpm2.PTNVCountersAvail, uint32(max(0, maxNVIndexes-len(nv.indexes))))
	add(tpm2.PTAlgorithmSet, nv.algorithmSet)
	add(tpm2.PTLoadedCurves, uint32(len(curves)))
	add(tpm2.PTLockoutCounter, nv.failedTries)
	add(tpm2.PTMaxAuthFail, nv.maxTries)
	add(tpm2.PTLockoutInterval, nv.recoveryTime)
	add(tpm2.PTLockoutRecovery, nv.lockoutRecovery)
	add(tpm2.PTNVWriteRecovery, 0)
	add(tpm2.PTAuditCounter0, uint32(nv.auditCounter>>32))
	add(tpm2.PTAuditCounter1, uint32(nv.auditCounter&0xffffffff))
	return out
}

func (t *TPM) sessionCounts() (loaded, active, free uint32) {
	for i := range t.ram.sessions {
		switch {
		case t.ram.sessions[i] != nil:
			loaded++
		case t.ram.reset.savedAt[i] == 0:
			free++
		}
	}
	return loaded, maxSessions - free, free
}

// bit is v with bit n set when on is true.
func bit(v uint32, n int, on bool) uint32 {
	if on {
		return v | 1<<n
	}
	return v
}

// permanentAttributes is TPMA_PERMANENT (Part 2, 8.6).
func (t *TPM) permanentAttributes() (v uint32) {
	nv := t.n()
	v = bit(v, 0, len(nv.ownerAuth) != 0)
	v = bit(v, 1, len(nv.endorsementAuth) != 0)
	v = bit(v, 2, len(nv.lockoutAuth) != 0)
	v = bit(v, 8, nv.disableClear)
	v = bit(v, 9, t.lockedOut(false))
	return bit(v, 10, true) // tpmGeneratedEPS
}

// startupClearAttributes is TPMA_STARTUP_CLEAR (Part 2, 8.7).
func (t *TPM) startupClearAttributes() (v uint32) {
	s := &t.ram.clear
	v = bit(v, 0, s.phEnable)
	v = bit(v, 1, s.shEnable)
	v = bit(v, 2, s.ehEnable)
	v = bit(v, 3, s.phEnableNV)
	return bit(v, 31, t.ram.orderlyAtStart)
}

// testParms is TPM2_TestParms (Part 3, 30.3): whether an object of this kind could be.
func (t *TPM) testParms(_ *call, in *tpm2.TestParms, _ *tpm2.TestParmsResponse) tpm2.RC {
	return checkParameters(in.Parameters.Type, &in.Parameters.Parameters).Param(1)
}
