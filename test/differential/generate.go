package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A generator makes sequences from a seed. It keeps in mind what the commands so
// far have left behind, so that most of what it makes is valid, and spoils a
// part of it. What it makes depends on the seed and on what swtpm answered, which
// for the same commands is the same: a seed repeats its sequence.
type generator struct {
	r        *rand.Rand
	n        int // slots named so far
	started  bool
	objects  []*object
	sessions []*live
	indices  map[string]*index
	pool     map[string][]string // symbols by type, from answers
	auths    map[string]string   // of hierarchies
	done     func(Outcome)       // what to remember if the step succeeds
}

type object struct {
	handle, auth   string
	kind           string // storage, sign, hmac, cipher, data, rsa, sequence, or nothing in particular
	parent, signer bool
	persist        bool
}

type live struct {
	slot   string
	policy bool
	saved  bool
}

type index struct {
	auth string
	kind string
	size int
}

func newGenerator(seed uint64) *generator {
	return &generator{r: rand.New(rand.NewPCG(seed, 0x766f756368)), indices: map[string]*index{}, pool: map[string][]string{}, auths: map[string]string{}}
}

func (g *generator) pick(s ...string) string { return s[g.r.IntN(len(s))] }
func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }
func (g *generator) step(format string, a ...any) Step {
	s, err := parseStep(fmt.Sprintf(format, a...))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return s
}

func (g *generator) slot() string {
	g.n++
	return fmt.Sprintf("g%d", g.n)
}

// Next makes a step. Observe must be told its outcome before the next.
func (g *generator) Next() Step {
	g.done = nil
	if !g.started {
		g.done = func(Outcome) { g.started = true }
		return g.step("Startup : : u16(%s)", g.pick("0", "0", "0", "1"))
	}
	s := g.valid()
	if g.chance(14) && !s.Power && !s.Suspend {
		g.spoil(&s)
	}
	return s
}

// Observe remembers what a step has left behind.
func (g *generator) Observe(s Step, o Outcome) {
	if s.Power {
		g.started = false
		g.objects = slices.DeleteFunc(g.objects, func(o *object) bool { return !o.persist })
		g.sessions = slices.DeleteFunc(g.sessions, func(l *live) bool { return !l.saved })
		return
	}
	if o.RC != 0 || o.Left || s.Suspend {
		return
	}
	if g.done != nil {
		g.done(o)
	}
	if s.Save == "" || s.Save == flushed {
		return
	}
	for _, p := range responses[s.Command] {
		refs := append(g.pool[p.typ], "$"+s.Save+"."+p.name)
		if len(refs) > 6 {
			refs = refs[1:]
		}
		g.pool[p.typ] = refs
	}
}

// valid makes a step that should mostly succeed.
func (g *generator) valid() Step {
	if len(g.objects) > 0 && g.transient() >= 3 && g.chance(80) {
		return g.flush()
	}
	switch n := g.r.IntN(100); {
	case n < 6:
		return g.createPrimary()
	case n < 14:
		return g.create()
	case n < 20:
		return g.loadExternal()
	case n < 26:
		return g.startSession()
	case n < 33:
		return g.defineNV()
	case n < 44:
		return g.useNV()
	case n < 46:
		return g.sequence()
	case n < 48:
		return g.changeAuth()
	case n < 50:
		return g.evict()
	case n < 52:
		return g.flush()
	case n < 72:
		return g.useObject()
	case n < 73 && g.chance(40):
		return g.step("Shutdown : : u16(%s)", g.pick("0", "1"))
	case n < 74 && g.chance(50):
		return Step{Power: true}
	case n < 75 && g.chance(50):
		return Step{Suspend: true}
	}
	return g.any()
}

func (g *generator) transient() int {
	n := 0
	for _, o := range g.objects {
		if !o.persist {
			n++
		}
	}
	return n
}

var schemes = []string{"null", "null", "ecdsa-sha256", "ecdaa-sha256-0", "ecdsa-sha1", "ecdsa-sha384", "rsassa-sha256", "rsapss-sha256", "hmac-sha256", "oaep-sha256", "rsaes"}

// template is a TPMT_PUBLIC that makes sense, and what the key can do.
func (g *generator) template() (string, object) {
	own := "FT+FP+SDO+UWA"
	if g.chance(25) {
		own = "SDO+UWA"
	}
	if g.chance(80) {
		own += "+NODA"
	}
	if g.chance(4) {
		own = g.pick("FT", "FP+SDO", "SDO+AWP", "0", "FT+FP+SDO", "UWA", "FT+FP+SDO+UWA+STC", "SDO+UWA+ED", "FT+FP+UWA")
	}
	extra := ""
	if g.chance(10) {
		extra += ",name=" + g.pick("sha1", "sha384", "sha512")
	}
	if g.chance(15) {
		extra += ",policy=" + g.pick("fill(32)", "fill(20)", "zeros(32)", "h(sha256,str(a))")
	}
	switch g.r.IntN(8) {
	case 0, 1:
		return fmt.Sprintf("ecc(%s+R+D,%s,%s,null%s)", own, g.pick("p256", "p256", "p384"), g.pick("aes128cfb", "aes256cfb"), extra), object{kind: "storage", parent: true}
	case 2, 3:
		return fmt.Sprintf("ecc(%s+S,%s,null,%s%s)", own, g.pick("p256", "p256", "p384", "p521"), g.pick("null", "ecdsa-sha256", "ecdsa-sha384", "ecdaa-sha256-0"), extra), object{kind: "sign", signer: true}
	case 4:
		return fmt.Sprintf("ecc(%s+R+S,p256,null,ecdsa-%s%s)", own, g.pick("sha1", "sha256"), extra), object{kind: "sign", signer: true}
	case 5:
		return fmt.Sprintf("kh(%s+S,hmac-%s%s)", own, g.pick("sha1", "sha256", "sha512"), extra), object{kind: "hmac", signer: true}
	case 6:
		return fmt.Sprintf("symkey(%s+%s,%s%s)", own, g.pick("S+D", "S+D", "S", "D", "R+D"), g.pick("aes128cfb", "aes256cfb", "aes128null", "aes128ctr", "aes256cbc"), extra), object{kind: "cipher"}
	}
	if g.chance(3) {
		return fmt.Sprintf("rsa(%s+%s%s)", own, g.pick("S,2048,null,null", "D,2048,null,null", "R+D,2048,aes128cfb,null"), extra), object{kind: "rsa", signer: true}
	}
	return fmt.Sprintf("kh(%s,null%s)", strings.Replace(own, "+SDO", "", 1), extra), object{kind: "data"}
}

func (g *generator) authValue() string {
	return g.pick("0x", "0x", "str(a)", "str(bb)", "fill(20)", "fill(32)")
}

func (g *generator) createPrimary() Step {
	t, o := g.template()
	if strings.HasPrefix(t, "rsa") && !g.chance(20) {
		t = "ecc(FT+FP+SDO+UWA+NODA+R+D,p256,aes128cfb,null)"
	}
	slot, h := g.slot(), g.pick("owner", "owner", "owner", "null", "endorsement", "platform")
	o.handle, o.auth = "$"+slot, g.authValue()
	data := ""
	if strings.HasPrefix(t, "kh") && strings.Contains(t, ",null") {
		data = ",fill(24)"
	}
	g.done = func(Outcome) { g.objects = append(g.objects, &o) }
	return g.step("CreatePrimary %s : %s : sens(%s%s) 2b(%s) 2b(%s) %s -> %s", h, g.authFor(h), o.auth, data, t, g.pick("", "str(out)"), g.value("TPML_PCR_SELECTION"), slot)
}

// create makes a blob; load, which comes at once in half of the cases, an object of it.
func (g *generator) create() Step {
	if refs := g.pool["blob"]; len(refs) > 0 && g.chance(50) {
		b := strings.Split(g.pick(refs...), "|") // parent|slot|auth|kind
		slot := g.slot()
		o := object{handle: "$" + slot, auth: b[2], kind: b[3], parent: b[3] == "storage", signer: b[3] == "sign" || b[3] == "hmac" || b[3] == "rsa"}
		g.done = func(Outcome) { g.objects = append(g.objects, &o) }
		return g.step("Load %s : %s : $%s.outPrivate $%s.outPublic -> %s", b[0], g.authFor(b[0]), b[1], b[1], slot)
	}
	parent := g.object(func(o *object) bool { return o.parent })
	if parent == nil {
		return g.createPrimary()
	}
	t, o := g.template()
	slot := g.slot()
	o.auth = g.authValue()
	data := ""
	if strings.HasPrefix(t, "kh") && strings.Contains(t, ",null") {
		data = ",fill(24)"
	}
	ref := parent.handle + "|" + slot + "|" + o.auth + "|" + o.kind
	g.done = func(Outcome) { g.pool["blob"] = append(g.pool["blob"], ref) }
	return g.step("Create %s : %s : sens(%s%s) 2b(%s) 2b() %s -> %s", parent.handle, g.authFor(parent.handle), o.auth, data, t, g.value("TPML_PCR_SELECTION"), slot)
}

func (g *generator) loadExternal() Step {
	k := g.pick("ecc", "rsa", "hmac")
	sch := "null"
	if k == "hmac" {
		sch = "hmac-sha256"
	}
	slot := g.slot()
	o := object{handle: "$" + slot, auth: "0x", signer: true, kind: map[string]string{"ecc": "sign", "rsa": "rsa", "hmac": "hmac"}[k]}
	private, h := "2b(extpriv("+k+"))", "0x40000007"
	if g.chance(40) {
		private, h = "2b()", g.pick("0x40000007", "0x40000001", "0x4000000b")
	}
	g.done = func(Outcome) { g.objects = append(g.objects, &o) }
	return g.step("LoadExternal : : %s 2b(extpub(%s,%s,%s)) u32(%s) -> %s", private, k, g.pick("UWA+S", "UWA+S", "UWA+D", "UWA+S+D", "S+NODA"), sch, h, slot)
}

func (g *generator) startSession() Step {
	if len(g.sessions) >= 3 && g.chance(80) {
		l := g.sessions[g.r.IntN(len(g.sessions))]
		if !l.policy || g.chance(60) {
			g.done = func(Outcome) { g.sessions = slices.DeleteFunc(g.sessions, func(x *live) bool { return x == l }) }
			return g.step("FlushContext : : $%s", l.slot)
		}
		return g.step("PolicyRestart $%s", l.slot)
	}
	typ := g.pick("0", "1", "1", "3")
	l := &live{slot: g.slot(), policy: typ != "0"}
	g.done = func(Outcome) { g.sessions = append(g.sessions, l) }
	sym := g.pick("null", "aes128cfb", "aes256cfb", "xor-sha256")
	hash := g.pick("sha256", "sha256", "sha256", "sha1", "sha384")
	if parent := g.object(func(o *object) bool { return o.parent }); parent != nil && g.chance(30) {
		return g.step("StartAuthSession %s null : : 2b(fill(16)) salt(%s) u8(%s) symdef(%s) alg(%s) -> %s", parent.handle, parent.handle, typ, sym, hash, l.slot)
	}
	return g.step("StartAuthSession null null : : 2b(fill(%s)) 2b() u8(%s) symdef(%s) alg(%s) -> %s", g.pick("16", "20", "32"), typ, sym, hash, l.slot)
}

var nvHandles = []string{"0x01800001", "0x01800002", "0x01800003", "0x01000001", "0x01c00002"}

func (g *generator) defineNV() Step {
	h := g.pick(nvHandles...)
	if _, ok := g.indices[h]; ok && g.chance(60) {
		g.done = func(Outcome) { delete(g.indices, h) }
		return g.step("NV_UndefineSpace owner %s : %s", h, g.authFor("owner"))
	}
	x := &index{auth: g.authValue(), kind: g.pick("", "", "COUNTER", "BITS", "EXTEND", "PINFAIL", "PINPASS"), size: 8}
	attr := g.pick("OW+OR+AW+AR", "AW+AR", "OW+OR", "OW+AR+NODA", "OW+OR+AW+AR+PW+PR")
	if g.chance(70) && !strings.Contains(attr, "NODA") {
		attr += "+NODA"
	}
	switch x.kind {
	case "":
		x.size = []int{0, 1, 8, 32, 100, 1024, 2048}[g.r.IntN(7)]
	case "EXTEND":
		x.size = 32
	case "PINFAIL", "PINPASS":
		attr = "OW+OR+AR+NODA"
	}
	if x.kind != "" {
		attr += "+" + x.kind
	}
	for _, a := range []string{"ORD", "WSTC", "RSTC", "CSTC", "WD", "GL", "WA"} {
		if g.chance(8) {
			attr += "+" + a
		}
	}
	g.done = func(Outcome) { g.indices[h] = x }
	return g.step("NV_DefineSpace owner : %s : 2b(%s) 2b(nv(%s,%s,%d))", g.authFor("owner"), x.auth, h, attr, x.size)
}

func (g *generator) useNV() Step {
	h := g.pick(nvHandles...)
	x := g.indices[h]
	if x == nil {
		return g.defineNV()
	}
	by := g.pick(h, h, h, "owner")
	a := g.authFor(by)
	off := g.pick("0", "0", "0", "1", "8")
	switch g.r.IntN(9) {
	case 0, 1, 2:
		switch x.kind {
		case "COUNTER":
			return g.step("NV_Increment %s %s : %s", by, h, a)
		case "BITS":
			return g.step("NV_SetBits %s %s : %s : u64(%s)", by, h, a, g.pick("1", "0", "0x8000000000000001", "6"))
		case "EXTEND":
			return g.step("NV_Extend %s %s : %s : 2b(%s)", by, h, a, g.pick("str(x)", "fill(100)", ""))
		case "PINFAIL", "PINPASS":
			return g.step("NV_Write owner %s : %s : 2b(u32(%s),u32(%s)) u16(0)", h, g.authFor("owner"), g.pick("0", "1"), g.pick("3", "9"))
		}
		return g.step("NV_Write %s %s : %s : 2b(fill(%d,%d)) u16(%s)", by, h, a, min(x.size, 1024), g.n+1, off)
	case 3, 4:
		return g.step("NV_Read %s %s : %s : u16(%d) u16(%s)", by, h, a, min(x.size, 1024), off)
	case 5:
		return g.step("NV_ReadPublic %s -> %s", h, g.slot())
	case 6:
		return g.step("%s %s %s : %s", g.pick("NV_WriteLock", "NV_ReadLock"), by, h, a)
	case 7:
		if k := g.object(func(o *object) bool { return o.signer }); k != nil {
			return g.step("NV_Certify %s %s %s : %s %s : 2b(str(q)) scheme(%s) u16(%d) u16(0)", k.handle, by, h, g.authFor(k.handle), a, g.pick(schemes...), min(x.size, 1024))
		}
	}
	if p := g.session(true); p != nil {
		return g.step("PolicyNV %s %s $%s : %s : 2b(%s) u16(%s) u16(%d)", by, h, p.slot, a, g.pick("u64(0)", "u64(5)", "u32(1)", "fill(8)"), off, g.r.IntN(12))
	}
	return g.step("NV_GlobalWriteLock owner : %s", g.authFor("owner"))
}

func (g *generator) sequence() Step {
	slot := g.slot()
	o := &object{handle: "$" + slot, auth: g.authValue(), kind: "sequence"}
	g.done = func(Outcome) { g.objects = append(g.objects, o) }
	if k := g.object(func(o *object) bool { return o.signer }); k != nil && g.chance(40) {
		return g.step("HMAC_Start %s : %s : 2b(%s) alg(%s) -> %s", k.handle, g.authFor(k.handle), o.auth, g.pick("null", "sha256"), slot)
	}
	return g.step("HashSequenceStart : : 2b(%s) alg(%s) -> %s", o.auth, g.pick("null", "sha1", "sha256", "sha512"), slot)
}

// useObject does with an object what its kind is for.
func (g *generator) useObject() Step {
	o := g.object(func(*object) bool { return true })
	if o == nil {
		return g.createPrimary()
	}
	h, a := o.handle, g.authFor(o.handle)
	switch o.kind {
	case "sign":
		switch g.r.IntN(6) {
		case 0:
			return g.step("Quote %s : %s : 2b(str(q)) scheme(null) %s -> %s", h, a, g.value("TPML_PCR_SELECTION"), g.slot())
		case 1:
			if x := g.object(func(*object) bool { return true }); x != nil {
				return g.step("Certify %s %s : %s %s : 2b(str(q)) scheme(null) -> %s", x.handle, h, g.authFor(x.handle), a, g.slot())
			}
		case 2:
			return g.step("VerifySignature %s : : 2b(fill(32)) %s -> %s", h, g.value("TPMT_SIGNATURE"), g.slot())
		}
		return g.step("Sign %s : %s : 2b(fill(32)) scheme(%s) nullhash() -> %s", h, a, g.pick("null", "ecdsa-sha256", "ecdaa-sha256-0", "ecdaa-sha256-1"), g.slot())
	case "hmac":
		return g.step("HMAC %s : %s : %s alg(%s)", h, a, g.value("TPM2B_MAX_BUFFER"), g.pick("null", "sha256"))
	case "cipher":
		return g.step("EncryptDecrypt2 %s : %s : 2b(fill(%s)) u8(%s) alg(%s) 2b(fill(16)) -> %s", h, a, g.pick("16", "32", "17", "1"), g.pick("0", "1"), g.pick("null", "cfb", "ctr", "cbc"), g.slot())
	case "data":
		return g.step("Unseal %s : %s", h, a)
	case "rsa":
		switch g.r.IntN(3) {
		case 0:
			return g.step("RSA_Encrypt %s : : 2b(str(m)) scheme(%s) 2b() -> %s", h, g.pick("rsaes", "oaep-sha256"), g.slot())
		case 1:
			return g.step("RSA_Decrypt %s : %s : %s scheme(%s) 2b()", h, a, g.value("TPM2B_PUBLIC_KEY_RSA"), g.pick("rsaes", "oaep-sha256"))
		}
		return g.step("Sign %s : %s : 2b(fill(32)) scheme(%s) nullhash() -> %s", h, a, g.pick("rsassa-sha256", "rsapss-sha256"), g.slot())
	case "sequence":
		if g.chance(60) {
			return g.step("SequenceUpdate %s : %s : %s", h, a, g.value("TPM2B_MAX_BUFFER"))
		}
		g.done = func(Outcome) { g.objects = slices.DeleteFunc(g.objects, func(x *object) bool { return x == o }) }
		return g.step("SequenceComplete %s : %s : %s u32(%s) -> %s", h, a, g.value("TPM2B_MAX_BUFFER"), g.pick("0x40000001", "0x40000007"), g.slot())
	case "storage":
		switch g.r.IntN(3) {
		case 0:
			return g.step("MakeCredential %s : : 2b(fill(20)) 2b(name(%s)) -> %s", h, h, g.slot())
		case 1:
			return g.step("Import %s : %s : 2b() 2b(extpub(%s,UWA+S,%s)) 2b(2b(extpriv(%s))) 2b() scheme(null) -> %s", h, a, "ecc", "null", "ecc", g.slot())
		}
	}
	return g.step("ReadPublic %s -> %s", h, g.slot())
}

func (g *generator) changeAuth() Step {
	h := g.pick("owner", "endorsement", "platform", "lockout")
	v := g.authValue()
	a := g.authFor(h)
	g.done = func(Outcome) { g.auths[h] = v }
	return g.step("HierarchyChangeAuth %s : %s : 2b(%s)", h, a, v)
}

func (g *generator) evict() Step {
	h := g.pick("0x81000001", "0x81000002")
	for i, o := range g.objects {
		if o.handle == h {
			g.done = func(Outcome) { g.objects = slices.Delete(slices.Clone(g.objects), i, i+1) }
			return g.step("EvictControl owner %s : %s : u32(%s)", h, g.authFor("owner"), h)
		}
	}
	o := g.object(func(o *object) bool { return !o.persist })
	if o == nil {
		return g.createPrimary()
	}
	kept := *o
	kept.handle, kept.persist = h, true
	g.done = func(Outcome) { g.objects = append(g.objects, &kept) }
	return g.step("EvictControl owner %s : %s : u32(%s)", o.handle, g.authFor("owner"), h)
}

func (g *generator) flush() Step {
	o := g.object(func(o *object) bool { return !o.persist })
	if o == nil {
		return g.createPrimary()
	}
	if g.chance(15) {
		return g.step("ContextSave %s -> %s", o.handle, g.slot())
	}
	g.done = func(Outcome) { g.objects = slices.DeleteFunc(g.objects, func(x *object) bool { return x == o }) }
	return g.step("FlushContext : : %s", o.handle)
}

func (g *generator) object(want func(*object) bool) *object {
	var fit []*object
	for _, o := range g.objects {
		if want(o) {
			fit = append(fit, o)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[g.r.IntN(len(fit))]
}

func (g *generator) session(policy bool) *live {
	var fit []*live
	for _, l := range g.sessions {
		if l.policy == policy {
			fit = append(fit, l)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[g.r.IntN(len(fit))]
}

// authFor authorizes a handle: mostly with what is right.
func (g *generator) authFor(h string) string {
	v := "0x"
	if a, ok := g.auths[h]; ok {
		v = a
	}
	if x, ok := g.indices[h]; ok {
		v = x.auth
	}
	for _, o := range g.objects {
		if o.handle == h {
			v = o.auth
		}
	}
	if g.chance(3) {
		v = "str(wrong)"
	}
	if s := g.session(false); s != nil && g.chance(30) {
		return fmt.Sprintf("%s($%s,%s,%s)", g.pick("s", "s", "s", "s", "s", "s", "s", "s", "bads"), s.slot, g.pick("c", "c", "c", "c+d", "c+e", "c+d+e", "c+a", "0"), v)
	}
	if p := g.session(true); p != nil && g.chance(8) {
		return fmt.Sprintf("p($%s,c)", p.slot)
	}
	return "pw(" + v + ")"
}

// any makes a command of any kind out of its description: each handle and
// parameter is something of the type it wants, most often from an earlier answer.
func (g *generator) any() Step {
	infos := tpm2.Infos()
	info := infos[g.r.IntN(len(infos))]
	switch info.Code {
	case tpm2.CCStartup, tpm2.CCShutdown, tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCStartAuthSession, tpm2.CCNVDefineSpace:
		return g.valid()
	case tpm2.CCClear, tpm2.CCChangeEPS, tpm2.CCChangePPS, tpm2.CCHierarchyControl, tpm2.CCSetPrimaryPolicy, tpm2.CCPCRAllocate, tpm2.CCClearControl:
		if !g.chance(10) { // or little would live long
			return g.valid()
		}
	}
	if _, known := requests[info.Name]; !known && len(info.Handles) == 0 && g.chance(70) {
		return g.valid()
	}
	s := Step{Command: info.Name}
	for i, p := range handles[info.Name] {
		role, typ, auth := strings.Cut(p.name, ":")
		if !auth {
			typ = role
		}
		_ = typ
		h := g.handle(p.typ)
		s.Handles = append(s.Handles, h)
		if info.Handles[i].Role != tpm2.RoleNone {
			s.Auths = append(s.Auths, g.authFor(h))
		}
	}
	for _, p := range requests[info.Name] {
		s.Params = append(s.Params, g.value(strings.TrimSuffix(p.typ, "+")))
	}
	if len(responses[info.Name]) > 0 || info.ResponseHandle {
		s.Save = g.slot()
	}
	if info.ResponseHandle {
		if info.Code == tpm2.CCContextLoad {
			s.Save = flushed
		} else {
			o := &object{handle: "$" + s.Save, auth: "0x"}
			g.done = func(Outcome) { g.objects = append(g.objects, o) }
		}
	}
	if info.Flushed && len(s.Handles) > 0 {
		last := s.Handles[len(s.Handles)-1]
		g.done = func(Outcome) {
			g.objects = slices.DeleteFunc(g.objects, func(o *object) bool { return o.handle == last })
		}
	}
	return s
}
