package differential

import "strings"

// handle is something that a handle type takes.
func (g *generator) handle(typ string) string {
	null := strings.HasSuffix(typ, "+") && g.chance(20)
	typ = strings.TrimSuffix(typ, "+")
	objects := func() string {
		if o := g.object(func(*object) bool { return true }); o != nil {
			return o.handle
		}
		return "0x80000000"
	}
	switch {
	case null:
		return "null"
	case typ == "TPMI_DH_OBJECT":
		return objects()
	case typ == "TPMI_DH_PARENT":
		return g.pick(objects(), "owner", "null")
	case typ == "TPMI_DH_ENTITY":
		return g.pick(objects(), "owner", "endorsement", "platform", "lockout", "null", g.pick(nvHandles...), "pcr16")
	case typ == "TPMI_DH_PCR":
		return g.pick("pcr0", "pcr7", "pcr16", "pcr16", "pcr23", "pcr20", "pcr17")
	case typ == "TPMI_DH_CONTEXT":
		if l := g.session(g.chance(50)); l != nil && g.chance(40) {
			return "$" + l.slot
		}
		return objects()
	case typ == "TPMI_SH_POLICY", typ == "TPMI_SH_HMAC":
		if l := g.session(typ == "TPMI_SH_POLICY"); l != nil {
			return "$" + l.slot
		}
		return "0x03000000"
	case typ == "TPMI_RH_PLATFORM":
		return "platform"
	case typ == "TPMI_RH_ENDORSEMENT":
		return "endorsement"
	case typ == "TPMI_RH_PROVISION":
		return g.pick("owner", "platform")
	case typ == "TPMI_RH_CLEAR":
		return g.pick("lockout", "platform")
	case typ == "TPMI_RH_LOCKOUT":
		return "lockout"
	case strings.HasPrefix(typ, "TPMI_RH_NV_AUTH"):
		return g.pick("owner", "platform", g.pick(nvHandles...), g.pick(nvHandles...))
	case strings.HasPrefix(typ, "TPMI_RH_NV"):
		return g.pick(nvHandles...)
	}
	return g.pick("owner", "endorsement", "platform", "lockout", "null")
}

// value is something of a parameter type, from an earlier answer when there is one.
func (g *generator) value(typ string) string {
	if refs := g.pool[typ]; len(refs) > 0 && g.chance(50) {
		return g.pick(refs...)
	}
	if v, ok := values[typ]; ok {
		return g.pick(v...)
	}
	switch typ {
	case "TPM2B_PUBLIC", "TPM2B_TEMPLATE":
		t, _ := g.template()
		return "2b(" + t + ")"
	case "TPM2B_NAME":
		return g.pick("2b(fill(34))", "2b()", "2b(name("+g.handle("TPMI_DH_OBJECT")+"))", "2b(name(0x40000001))")
	case "TPMT_SIGNATURE":
		return "sig(" + g.pick("ecc", "rsa", "hmac") + "," + g.pick("sha256", "sha256", "sha1") + "," + g.pick("str(m)", "u32(0)", "fill(32)") + ")"
	case "TPM2B_SENSITIVE":
		return "2b(extpriv(" + g.pick("ecc", "rsa", "hmac") + "))"
	case "TPM2B_NV_PUBLIC":
		return "2b(nv(" + g.pick(nvHandles...) + ",OW+OR+AW+AR,8))"
	case "TPMI_DH_CONTEXT":
		return "u32(0x80000005)" // what is there is flushed by flush
	}
	return g.pick("0x", "u16(0)", "2b(fill(16))")
}

// values are symbols for the types whose values need no memory.
var values = map[string][]string{
	"TPM2B_DIGEST":           {"2b()", "2b(fill(20))", "2b(fill(32))", "2b(fill(32))", "2b(h(sha256,str(m)))", "2b(fill(64))"},
	"TPM2B_DATA":             {"2b()", "2b(str(data))", "2b(fill(16))", "2b(fill(66))"},
	"TPM2B_NONCE":            {"2b()", "2b()", "2b(fill(16))", "2b(str(ref))"},
	"TPM2B_AUTH":             {"2b()", "2b(str(a))", "2b(fill(20))", "2b(fill(32))"},
	"TPM2B_OPERAND":          {"2b(u64(0))", "2b(u32(0))", "2b(fill(8))", "2b(u8(1))"},
	"TPM2B_EVENT":            {"2b(str(event))", "2b()", "2b(fill(1024))"},
	"TPM2B_MAX_BUFFER":       {"2b(fill(16))", "2b(fill(32))", "2b(str(hello))", "2b(fill(1024))", "2b()", "2b(0xff544347,str(x))"},
	"TPM2B_MAX_NV_BUFFER":    {"2b(fill(8))", "2b(fill(32))", "2b()", "2b(fill(1024))"},
	"TPM2B_TIMEOUT":          {"2b()", "2b(fill(8))"},
	"TPM2B_IV":               {"2b(fill(16))", "2b(fill(16))", "2b()", "2b(fill(15))"},
	"TPM2B_SENSITIVE_CREATE": {"sens()", "sens(str(a))", "sens(0x,fill(16))", "sens(str(a),fill(32))"},
	"TPM2B_SENSITIVE_DATA":   {"2b(fill(32))", "2b()"},
	"TPM2B_PRIVATE":          {"2b()", "2b(fill(100))", "2b(2b(extpriv(ecc)))"},
	"TPM2B_ENCRYPTED_SECRET": {"2b()", "2b(2b(fill(32)),2b(fill(32)))", "2b(fill(256))"},
	"TPM2B_ID_OBJECT":        {"2b(2b(fill(32)),fill(34))", "2b()"},
	"TPM2B_PUBLIC_KEY_RSA":   {"2b(fill(32))", "2b(fill(256))", "2b()", "2b(zeros(1),fill(255))"},
	"TPM2B_ECC_POINT":        {"2b(2b(fill(32)),2b(fill(32)))", "2b(sub(extpub(ecc,S,null),22,90))"},
	"TPML_PCR_SELECTION":     {"sel()", "sel(sha256,0,7)", "sel(sha256,16)", "sel(sha1/0,sha256/16)", "sel(sha384,1,2,3)"},
	"TPML_DIGEST_VALUES":     {"digests(sha256,str(a))", "digests(sha1,str(b),sha256,str(b))", "u32(0)", "digests(sha512,str(c))"},
	"TPML_DIGEST_OR":         {"cat(u32(2),2b(zeros(32)),2b(fill(32)))", "cat(u32(2),2b(fill(32)),2b(fill(32,2)))", "cat(u32(2),2b(),2b())"},
	"TPML_CC":                {"u32(0)", "cat(u32(1),u32(0x17b))", "cat(u32(2),u32(0x181),u32(0x131))"},
	"TPML_ALG":               {"u32(0)", "cat(u32(1),alg(sha256))", "cat(u32(2),alg(ecdsa),alg(aes))"},
	"TPMI_ALG_HASH":          {"alg(sha256)", "alg(sha256)", "alg(sha1)", "alg(sha384)", "alg(sha512)", "alg(null)"},
	"TPMI_ALG_CIPHER_MODE":   {"alg(null)", "alg(cfb)", "alg(ctr)", "alg(cbc)", "alg(ecb)", "alg(ofb)"},
	"TPMI_ECC_CURVE":         {"alg(p256)", "alg(p384)", "alg(p521)"},
	"TPMI_ECC_KEY_EXCHANGE":  {"alg(ecdh)"},
	"TPMT_SIG_SCHEME":        {"scheme(null)", "scheme(null)", "scheme(ecdsa-sha256)", "scheme(ecdsa-sha1)", "scheme(ecdaa-sha256-0)", "scheme(ecdaa-sha256-1)", "scheme(rsassa-sha256)", "scheme(rsapss-sha256)", "scheme(hmac-sha256)"},
	"TPMT_RSA_DECRYPT":       {"scheme(null)", "scheme(rsaes)", "scheme(oaep-sha256)", "scheme(oaep-sha1)"},
	"TPMT_KDF_SCHEME":        {"scheme(null)", "scheme(kdf1_56a-sha256)", "scheme(mgf1-sha256)"},
	"TPMT_SYM_DEF_OBJECT":    {"scheme(null)", "scheme(null)", "scheme(aes128cfb)", "scheme(aes256cfb)"},
	"TPMT_PUBLIC_PARMS":      {"cat(alg(keyedhash),scheme(null))", "cat(alg(symcipher),scheme(aes128cfb))", "cat(alg(ecc),scheme(null),scheme(ecdsa-sha256),alg(p256),scheme(null))", "cat(alg(rsa),scheme(null),scheme(null),u16(2048),u32(0))"},
	"TPMT_TK_HASHCHECK":      {"nullhash()"},
	"TPMT_TK_VERIFIED":       {"cat(u16(0x8022),u32(0x40000007),2b())"},
	"TPMT_TK_CREATION":       {"cat(u16(0x8021),u32(0x40000007),2b())"},
	"TPMT_TK_AUTH":           {"cat(u16(0x8025),u32(0x40000007),2b())", "cat(u16(0x8023),u32(0x40000007),2b())"},
	"TPMS_CONTEXT":           {"cat(u64(1),u32(0x80000000),u32(0x40000001),2b(fill(100)))"},
	"TPMI_RH_HIERARCHY":      {"u32(0x40000001)", "u32(0x40000007)", "u32(0x4000000b)"},
	"TPMI_RH_ENABLES":        {"u32(0x40000001)", "u32(0x4000000b)", "u32(0x4000000d)"},
	"TPMI_DH_PERSISTENT":     {"u32(0x81000001)", "u32(0x81000002)", "u32(0x81800001)"},
	"TPMI_DH_PCR":            {"u32(16)", "u32(20)", "u32(0)"},
	"TPMI_YES_NO":            {"u8(0)", "u8(1)"},
	"TPMA_LOCALITY":          {"u8(1)", "u8(3)", "u8(31)", "u8(33)", "u8(0)"},
	"TPM_EO":                 {"u16(0)", "u16(1)", "u16(3)", "u16(7)", "u16(9)", "u16(10)", "u16(11)"},
	"TPM_CC":                 {"u32(0x15e)", "u32(0x15d)", "u32(0x14e)", "u32(0x13b)", "u32(0x131)"},
	"TPM_CAP":                {"u32(1)", "u32(2)", "u32(5)", "u32(6)", "u32(7)"},
	"TPM_CLOCK_ADJUST":       {"u8(0)", "u8(1)", "u8(0xff)"},
	"TPM_SU":                 {"u16(0)", "u16(1)"},
	"TPM_SE":                 {"u8(0)", "u8(1)", "u8(3)"},
	"UINT8":                  {"u8(0)", "u8(1)"},
	"UINT16":                 {"u16(0)", "u16(16)", "u16(16)", "u16(20)", "u16(8)", "u16(32)"},
	"UINT32":                 {"u32(0)", "u32(1)", "u32(3)", "u32(0x100)", "u32(1000)", "u32(0x80000000)"},
	"INT32":                  {"u32(0)", "u32(0)", "u32(0xfffff000)"},
	"UINT64":                 {"u64(0)", "u64(1)", "u64(0x100000000)"},
}

// spoil makes a valid step nearly valid, or hostile.
func (g *generator) spoil(s *Step) {
	if s.Save != "" {
		s.Save, g.done = flushed, nil // its outcome is not foreseen
	}
	switch g.r.IntN(10) {
	case 0:
		s.Faults = append(s.Faults, "cut="+g.pick("1", "2", "3", "10"))
	case 1:
		s.Faults = append(s.Faults, "extra="+g.pick("00", "0000", "ffffffff"))
	case 2, 3, 4:
		s.Faults = append(s.Faults, "flip="+g.pick("0", "1", "2", "3", "4", "5", "6", "8", "10", "12", "14", "20", "40", "60")+"^"+g.pick("1", "2", "80", "ff", "10"))
	case 5:
		s.Faults = append(s.Faults, "tag="+g.pick("8001", "8002", "8003"))
	case 6:
		if len(s.Auths) > 0 {
			s.Faults = append(s.Faults, "authsize="+g.pick("1", "-1", "9", "-9", "100"))
		}
	case 7:
		if len(s.Handles) > 0 {
			g.done = nil
			s.Handles[g.r.IntN(len(s.Handles))] = g.pick("0x80000000", "0x80000001", "0x02000000", "0x03000000", "0x81000001", "0x01800001", "0x00000010", "owner", "null", "0xffffffff")
		}
	case 8:
		if len(s.Auths) > 0 {
			s.Auths[g.r.IntN(len(s.Auths))] = g.pick("pw(str(wrong))", "pw", "raw(u32(0x40000009),2b(),u8(0x40),2b())", "raw(fill(20))", "raw(u32(0x02000000),2b(fill(16)),u8(1),2b(fill(32)))")
		}
	case 9:
		if len(s.Params) > 0 {
			g.done = nil
			s.Params[g.r.IntN(len(s.Params))] = g.pick("0x", "2b()", "2b(fill(65))", "u32(0xffffffff)", "u16(0x7fff)", "zeros(40)", "fill(7)")
		}
	}
}
