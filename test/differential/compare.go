package differential

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// rule is how a response parameter is compared.
type rule int

const (
	exact  rule = iota // the same octets
	follow             // the same octets, unless what went in was different already; then the same size
	length             // the same size: it is random or secret
	filled             // both empty or both not: the size is the maker's choice
	never              // the maker's own
)

// ruleFor is the rule for a parameter: by command and name, else by type.
func ruleFor(command string, f field) rule {
	if r, ok := byName[command+"."+f.name]; ok {
		return r
	}
	switch f.typ {
	case "TPM2B_PRIVATE", "TPM2B_TIMEOUT":
		return filled
	case "TPM2B_NONCE", "TPM2B_NAME", "TPM2B_ENCRYPTED_SECRET", "TPM2B_ID_OBJECT":
		return length
	}
	return follow
}

var byName = map[string]rule{
	"GetRandom.randomBytes":      length,
	"GetTestResult.outData":      never,
	"ECDH_KeyGen.zPoint":         length,
	"ECDH_KeyGen.pubPoint":       length,
	"EC_Ephemeral.Q":             length,
	"Commit.L":                   length,
	"Commit.E":                   length,
	"RSA_Encrypt.outData":        length,
	"Create.creationHash":        length, // covers the parent's Name; checked against creationData
	"Duplicate.encryptionKeyOut": length,
	"NV_ReadPublic.nvName":       follow,
	"Unseal.outData":             exact,
	"ECC_Encrypt.C1":             length,
	"ECC_Encrypt.C2":             length,
	"ECC_Encrypt.C3":             length,
	"PCR_Allocate.sizeNeeded":    never,
	"PCR_Allocate.sizeAvailable": never,
	"PCR_Read.pcrUpdateCounter":  exact,
}

// compare lists the differences of two answers to the same step.
func (p *Pair) compare(command string, a, b *answer, tainted bool) []Difference {
	var out []Difference
	diff := func(what, theirs, ours string) {
		if theirs != ours {
			out = append(out, Difference{command, what, theirs, ours})
		}
	}
	diff("fault", "", b.fault)
	if a.fault != "" {
		diff("their fault", a.fault, "")
	}
	diff("rc", fmt.Sprintf("0x%03x", a.rc), fmt.Sprintf("0x%03x", b.rc))
	if a.rc != b.rc || a.rc != 0 || len(a.fields) != len(b.fields) {
		return out
	}
	diff("tag", fmt.Sprintf("%04x", a.tag), fmt.Sprintf("%04x", b.tag))
	diff("handle kind", fmt.Sprintf("%02x", a.handle>>24), fmt.Sprintf("%02x", b.handle>>24))
	for i, f := range a.fields {
		x, y := p.normal(command, f, b.fields[i], tainted)
		diff(f.name, x, y)
	}
	return out
}

// normal writes both values of a parameter with what may differ taken out.
func (p *Pair) normal(command string, f, g field, tainted bool) (string, string) {
	one := func(f field) string { return normalField(command, f, tainted || p.pcrTainted) }
	switch f.typ {
	case "TPMS_CAPABILITY_DATA":
		return p.capabilities(f.b, g.b)
	case "TPM2B_PUBLIC", "TPM2B_CREATION_DATA", "TPM2B_ATTEST", "TPMT_SIGNATURE", "TPMS_CONTEXT", "TPMS_TIME_INFO":
		return one(f), one(g)
	}
	if strings.HasPrefix(f.typ, "TPMT_TK_") {
		return one(f), one(g)
	}
	r := ruleFor(command, f)
	if r == follow && tainted || r == follow && p.pcrTainted && command == "PCR_Read" {
		r = length
	}
	switch r {
	case length:
		return fmt.Sprintf("%d octets", len(f.b)), fmt.Sprintf("%d octets", len(g.b))
	case filled:
		return fmt.Sprint(len(f.b) > 2), fmt.Sprint(len(g.b) > 2)
	case never:
		return "", ""
	}
	return hex.EncodeToString(f.b), hex.EncodeToString(g.b)
}

func normalField(command string, f field, tainted bool) string {
	inner := f.b
	if len(inner) >= 2 {
		inner = inner[2:]
	}
	size := func(b []byte) []byte { return make([]byte, len(b)) }
	mask := func(b []byte) []byte { // the Name's algorithm, and as many zeros as its digest has
		if len(b) < 2 || !tainted && command == "NV_Certify" {
			return b
		}
		return append(append([]byte(nil), b[:2]...), make([]byte, len(b)-2)...)
	}
	switch {
	case f.typ == "TPM2B_PUBLIC":
		var p tpm2.TPMTPublic
		if err := tpm2.Unmarshal(inner, &p); err != nil {
			return "does not parse: " + err.Error()
		}
		p.Unique.RSA, p.Unique.KeyedHash, p.Unique.Sym = size(p.Unique.RSA), size(p.Unique.KeyedHash), size(p.Unique.Sym)
		p.Unique.ECC.X, p.Unique.ECC.Y = size(p.Unique.ECC.X), size(p.Unique.ECC.Y)
		if tainted {
			p.AuthPolicy = size(p.AuthPolicy)
		}
		return hex.EncodeToString(tpm2.Marshal(&p))
	case f.typ == "TPM2B_CREATION_DATA":
		var c tpm2.TPMSCreationData
		if err := tpm2.Unmarshal(inner, &c); err != nil {
			return "does not parse: " + err.Error()
		}
		c.ParentName, c.ParentQualifiedName = mask(c.ParentName), mask(c.ParentQualifiedName)
		if tainted {
			c.PCRDigest, c.OutsideInfo = size(c.PCRDigest), size(c.OutsideInfo)
		}
		return hex.EncodeToString(tpm2.Marshal(&c))
	case f.typ == "TPM2B_ATTEST":
		var t tpm2.TPMSAttest
		if err := tpm2.Unmarshal(inner, &t); err != nil {
			return "does not parse: " + err.Error()
		}
		// The clock runs; the counts and the version are obfuscated for keys outside
		// the endorsement and platform hierarchies (Part 1, 31.3).
		// safe is compared by ReadClock.
		t.ClockInfo, t.FirmwareVersion = tpm2.TPMSClockInfo{}, 0
		t.QualifiedSigner = mask(t.QualifiedSigner)
		at := &t.Attested
		at.Certify.Name, at.Certify.QualifiedName = mask(at.Certify.Name), mask(at.Certify.QualifiedName)
		at.Creation.ObjectName = mask(at.Creation.ObjectName)
		at.Creation.CreationHash = size(at.Creation.CreationHash)
		at.SessionAudit.SessionDigest = size(at.SessionAudit.SessionDigest)
		at.CommandAudit.AuditDigest = size(at.CommandAudit.AuditDigest)
		at.Time = tpm2.TPMSTimeAttestInfo{}
		if tainted {
			at.Quote.PCRDigest, t.ExtraData = size(at.Quote.PCRDigest), size(t.ExtraData)
			at.NV.NVContents, at.NVDigest.NVDigest = size(at.NV.NVContents), size(at.NVDigest.NVDigest)
		}
		at.CommandAudit.AuditCounter = 0
		return hex.EncodeToString(tpm2.Marshal(&t))
	case f.typ == "TPMT_SIGNATURE":
		if len(f.b) < 4 {
			return hex.EncodeToString(f.b)
		}
		// ECDSA's numbers may be short by leading zeros in some TPMs, never in ours; the hash and scheme must agree.
		return fmt.Sprintf("%x", f.b[:4])
	case f.typ == "TPMS_CONTEXT":
		if len(f.b) < 16 {
			return "short"
		}
		return fmt.Sprintf("%x %x", f.b[8] /* the space; sessions differ in number */, f.b[12:16])
	case f.typ == "TPMS_TIME_INFO":
		if len(f.b) < 25 {
			return "short"
		}
		return fmt.Sprintf("resetCount %d restartCount %d safe %d", binary.BigEndian.Uint32(f.b[16:]), binary.BigEndian.Uint32(f.b[20:]), f.b[24])
	case strings.HasPrefix(f.typ, "TPMT_TK_"):
		if len(f.b) < 8 {
			return "short"
		}
		return fmt.Sprintf("%x %v", f.b[:6], len(f.b) > 8)
	}
	return ""
}

// capabilities compares what is not the maker's choice: commands' attributes
// where both have the command, handles by number, PCRs, ECC curves both have.
func (p *Pair) capabilities(x, y []byte) (string, string) {
	if len(x) < 8 || len(y) < 8 {
		return hex.EncodeToString(x), hex.EncodeToString(y)
	}
	switch tpm2.CAP(binary.BigEndian.Uint32(x)) {
	case tpm2.CapHandles:
		n, m := binary.BigEndian.Uint32(x[4:]), binary.BigEndian.Uint32(y[4:])
		return fmt.Sprintf("%d handles", n), fmt.Sprintf("%d handles", m)
	case tpm2.CapPCRs, tpm2.CapPPCommands, tpm2.CapAuditCommands:
		return hex.EncodeToString(x), hex.EncodeToString(y)
	case tpm2.CapAuthPolicies:
		return fmt.Sprint(binary.BigEndian.Uint32(x[4:])), fmt.Sprint(binary.BigEndian.Uint32(y[4:]))
	case tpm2.CapCommands:
		return common(x, y, func(v uint32) uint32 { return v & 0x2000ffff }, nil)
	case tpm2.CapTPMProperties:
		return properties(x), properties(y)
	case tpm2.CapPCRProperties:
		return pcrProperties(x), pcrProperties(y)
	}
	return hex.EncodeToString(x[:4]), hex.EncodeToString(y[:4])
}

// common writes the 32-bit values that both lists have by key.
func common(x, y []byte, key func(uint32) uint32, _ any) (string, string) {
	read := func(b []byte) map[uint32]uint32 {
		m := map[uint32]uint32{}
		for b = b[8:]; len(b) >= 4; b = b[4:] {
			v := binary.BigEndian.Uint32(b)
			m[key(v)] = v
		}
		return m
	}
	mx, my := read(x), read(y)
	var sx, sy strings.Builder
	for k, v := range mx {
		if w, ok := my[k]; ok && v != w {
			fmt.Fprintf(&sx, "%08x ", v)
			fmt.Fprintf(&sy, "%08x ", w)
		}
	}
	return sx.String(), sy.String()
}

// comparedProperties are the TPM_PT that the specification or the history decides, not the maker.
var comparedProperties = map[tpm2.PT]bool{
	tpm2.PTPCRCount: true, tpm2.PTPCRSelectMin: true, tpm2.PTMaxDigest: true, tpm2.PTPermanent: true, tpm2.PTStartupClear: true,
	tpm2.PTHRNVIndex: true, tpm2.PTHRPersistent: true, tpm2.PTNVCounters: true, tpm2.PTLockoutCounter: true, tpm2.PTMaxAuthFail: true,
	tpm2.PTLockoutInterval: true, tpm2.PTLockoutRecovery: true, tpm2.PTContextGapMax: true, tpm2.PTAuditCounter1: true,
}

func properties(b []byte) string {
	var s strings.Builder
	for b = b[8:]; len(b) >= 8; b = b[8:] {
		if pt := tpm2.PT(binary.BigEndian.Uint32(b)); comparedProperties[pt] {
			fmt.Fprintf(&s, "%x=%x ", uint32(pt), binary.BigEndian.Uint32(b[4:]))
		}
	}
	return s.String()
}

// pcrProperties leaves out TPM_PT_PCR_POLICY and TPM_PT_PCR_AUTH, which a platform profile decides.
func pcrProperties(b []byte) string {
	var s strings.Builder
	for b = b[8:]; len(b) >= 8; b = b[8:] {
		if pt := tpm2.PTPCR(binary.BigEndian.Uint32(b)); pt != tpm2.PTPCRPolicy && pt != tpm2.PTPCRAuth {
			fmt.Fprintf(&s, "%x=%x ", uint32(pt), b[5:8])
		}
	}
	return s.String()
}
