package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A typ is one line (or paragraph) of types.tbl.
type typ struct {
	kind     string // enum handle bits buf sized list struct union
	name     string
	of       string   // Go type of an enum or bits, element of a list or sized, selector of a union
	rc, null string   // enum
	values   []string // enum
	mask     string   // bits
	max, min int      // buf, list
	optional bool     // sized
	reuse    bool     // list
	fields   []field  // struct, union
}

type field struct {
	name     string
	typ      string
	null     bool     // TYPE+
	inherits bool     // +TYPE
	selector string   // (field)
	only     []string // struct: allowed constants …
	rc       string   // … else this response code
	arms     []string // union
}

type typeTable struct {
	order []string
	by    map[string]*typ
}

func parseTypes(table string) (*typeTable, error) {
	tt := &typeTable{by: map[string]*typ{}}
	var cur *typ
	for _, l := range rows(table) {
		w := strings.Fields(l)
		if strings.HasPrefix(l, " ") {
			f, err := parseField(w)
			if err != nil || cur == nil {
				return nil, fmt.Errorf("types.tbl: %q: %v", l, err)
			}
			cur.fields = append(cur.fields, f)
			continue
		}
		cur = &typ{kind: w[0], name: w[1]}
		for _, o := range w[2:] {
			if v, ok := strings.CutPrefix(o, "max="); ok {
				cur.max, _ = strconv.Atoi(v)
			}
			if v, ok := strings.CutPrefix(o, "min="); ok {
				cur.min, _ = strconv.Atoi(v)
			}
			if v, ok := strings.CutPrefix(o, "null="); ok {
				cur.null = v
			}
			if v, ok := strings.CutPrefix(o, "reserved="); ok {
				cur.mask = v
			}
			cur.optional = cur.optional || o == "optional"
			cur.reuse = cur.reuse || o == "reuse"
		}
		switch cur.kind {
		case "enum":
			cur.of, cur.rc = w[2], w[3]
			_, vals, _ := strings.Cut(l, " : ")
			cur.values = strings.Fields(vals)
		case "bits", "sized", "list", "union":
			cur.of = w[2]
		case "buf":
			cur.max, _ = strconv.Atoi(w[2])
		case "handle", "struct":
		default:
			return nil, fmt.Errorf("types.tbl: unknown kind in %q", l)
		}
		tt.order = append(tt.order, cur.name)
		tt.by[cur.name] = cur
	}
	return tt, nil
}

func parseField(w []string) (field, error) {
	f := field{name: w[0]}
	if w[0] == "-" { // an empty arm
		f.arms = w[2:]
		return f, nil
	}
	t := w[1]
	if i := strings.Index(t, "("); i >= 0 {
		f.selector = strings.TrimSuffix(t[i+1:], ")")
		t = t[:i]
	}
	t, f.null = strings.CutSuffix(t, "+")
	f.typ, f.inherits = strings.CutPrefix(t, "+")
	for i, o := range w[2:] {
		if v, ok := strings.CutPrefix(o, "="); ok {
			vals, rc, _ := strings.Cut(v, ":")
			f.only, f.rc = strings.Split(vals, ","), rc
		}
		if o == ":" {
			f.arms = w[2+i+1:]
		}
	}
	return f, nil
}

// scalars are the types that need no line in the table.
var scalars = map[string]string{
	"UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT32": "int32",
	"AlgID": "AlgID", "CC": "CC", "CAP": "CAP", "PT": "PT", "PTPCR": "PTPCR", "ST": "ST", "Handle": "Handle",
	"ECCCurve": "ECCCurve", "RC": "RC",
}

// goType is the Go type of a field.
func (tt *typeTable) goType(name string) string {
	switch name {
	case "HA", "PCR_SELECT":
		return "[]byte"
	case "NV_SIZE":
		return "uint16"
	}
	if g, ok := scalars[name]; ok {
		return g
	}
	t := tt.by[name]
	if t == nil {
		panic("types.tbl: no type " + name)
	}
	switch t.kind {
	case "enum", "bits":
		return t.of
	case "handle":
		return "Handle"
	case "buf":
		return "[]byte"
	case "list":
		return "[]" + tt.goType(t.of)
	case "sized":
		if t.optional {
			return "*" + tt.goType(t.of)
		}
		return tt.goType(t.of)
	}
	return goName(t.name)
}

// decode returns the statement that decodes a value of type f.typ into the place v.
func (tt *typeTable) decode(f field, v string) string {
	null := strconv.FormatBool(f.null)
	if f.inherits {
		null = "null"
	}
	switch f.typ {
	case "HA":
		return fmt.Sprintf("%s = d.ha(v.%s)", v, fieldName(f.selector))
	case "PCR_SELECT":
		return v + " = d.pcrSelect()"
	case "NV_SIZE":
		return v + " = d.nvSize()"
	}
	if g, ok := scalars[f.typ]; ok {
		return fmt.Sprintf("%s = %s(d.%s())", v, g, readerOf(g))
	}
	t := tt.by[f.typ]
	switch t.kind {
	case "enum":
		return fmt.Sprintf("%s = d.%s(%s)", v, lower(goName(t.name)), null)
	case "handle":
		return fmt.Sprintf("%s = d.handle(%s, %s)", v, handleType(t.name), null)
	case "bits":
		return fmt.Sprintf("%s = %s(d.bits%s(%s))", v, t.of, bitsOf(t.of), t.mask)
	case "buf":
		return fmt.Sprintf("%s = d.Buf(%d)", v, t.max)
	case "list":
		return fmt.Sprintf("%s = d.%s()", v, lower(goName(t.name)))
	case "sized":
		if t.optional {
			return fmt.Sprintf("if n, end := d.sizedOrNone(); n { %s = new(%s); %s.decode(d, %s); d.endSized(end) } else { %s = nil }", v, tt.goType(t.of), v, null, v)
		}
		return fmt.Sprintf("{ end := d.sized(); %s.decode(d, %s); d.endSized(end) }", v, null)
	case "struct":
		return fmt.Sprintf("%s.decode(d, %s)", v, null)
	case "union":
		return fmt.Sprintf("%s.decode(d, v.%s)", v, fieldName(f.selector))
	}
	panic(f.typ)
}

// encode returns the statement that encodes the place v.
func (tt *typeTable) encode(f field, v string) string {
	switch f.typ {
	case "HA":
		return fmt.Sprintf("e.Bytes(%s)", v)
	case "PCR_SELECT":
		return fmt.Sprintf("e.pcrSelect(%s)", v)
	case "NV_SIZE":
		return fmt.Sprintf("e.U16(%s)", v)
	}
	if g, ok := scalars[f.typ]; ok {
		return fmt.Sprintf("e.%s(%s(%s))", readerOf(g), strings.ToLower(strings.Replace(readerOf(g), "U", "uint", 1)), v)
	}
	t := tt.by[f.typ]
	switch t.kind {
	case "enum":
		return fmt.Sprintf("e.%s(%s(%s))", readerOf(t.of), strings.Replace(readerOf(t.of), "U", "uint", 1), v)
	case "handle":
		return fmt.Sprintf("e.U32(uint32(%s))", v)
	case "bits":
		return fmt.Sprintf("e.U%s(uint%s(%s))", bitsOf(t.of), bitsOf(t.of), v)
	case "buf":
		return fmt.Sprintf("e.Buf(%s)", v)
	case "list":
		return fmt.Sprintf("e.%s(%s)", lower(goName(t.name)), v)
	case "sized":
		if t.optional {
			return fmt.Sprintf("if %s == nil { e.U16(0) } else { at := e.mark(); %s.encode(e); e.patch(at) }", v, v)
		}
		return fmt.Sprintf("{ at := e.mark(); %s.encode(e); e.patch(at) }", v)
	case "struct":
		return fmt.Sprintf("%s.encode(e)", v)
	case "union":
		return fmt.Sprintf("%s.encode(e, v.%s)", v, fieldName(f.selector))
	}
	panic(f.typ)
}

// readerOf names the cursor method for a Go scalar type: U8, U16, U32, U64.
func readerOf(g string) string {
	switch g {
	case "uint8", "YesNo", "SE", "ClockAdjust", "HandleSpace":
		return "U8"
	case "uint16", "AlgID", "ST", "ECCCurve", "SU", "EO", "MLKEMParms", "MLDSAParms":
		return "U16"
	case "uint64":
		return "U64"
	}
	return "U32"
}

func bitsOf(g string) string {
	switch g {
	case "SessionAttributes", "Locality":
		return "8"
	}
	return "32"
}

func handleType(tcg string) string { return goName(tcg) }

// lower makes an exported name of a type into the name of its method: TPMLDigest is tpmlDigest.
func lower(s string) string {
	n := 0
	for n < len(s) && (s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' && s[n] <= '9') && n < 4 {
		n++
	}
	return strings.ToLower(s[:n]) + s[n:]
}

func (tt *typeTable) emit(p *printer) {
	for _, name := range tt.order {
		t := tt.by[name]
		g := goName(t.name)
		switch t.kind {
		case "enum":
			p.line("func (d *Decoder) %s(null bool) %s {", lower(g), t.of)
			p.line("v := %s(d.%s())", t.of, readerOf(t.of))
			p.line("switch v {")
			p.line("case %s:", strings.Join(t.values, ", "))
			switch t.of {
			case "AlgID":
				p.line("if d.hasAlg(v) { return v }")
			case "ECCCurve":
				p.line("if d.hasCurve(v) { return v }")
			default:
				p.line("return v")
			}
			if t.null != "" {
				p.line("case %s:\nif null { return v }", t.null)
			}
			p.line("}\nd.fail(RC%s)\nreturn v\n}\n", rcName(t.rc))
		case "list":
			e := field{typ: t.of}
			p.line("func (d *Decoder) %s() []%s {", lower(g), tt.goType(t.of))
			p.line("n := d.count(%d, %d)\nif n == 0 { return nil }", t.min, t.max)
			made := fmt.Sprintf("make([]%s, n)", tt.goType(t.of))
			if t.reuse {
				made = fmt.Sprintf("reuse(d.mem, &d.lists.%s, n)", lower(g))
			}
			p.line("v := %s\nfor i := range v {\n%s\nif d.rc != 0 { return nil }\n}\nreturn v\n}\n", made, tt.decode(e, "v[i]"))
			p.line("func (e *Encoder) %s(v []%s) {\ne.U32(uint32(len(v)))\nfor i := range v {\n%s\n}\n}\n", lower(g), tt.goType(t.of), tt.encode(e, "v[i]"))
		case "struct":
			tt.emitStruct(p, t)
		case "union":
			tt.emitUnion(p, t)
		}
	}
	p.line("// lists are those whose memory a Decoder can keep, see [Decoder.KeepMemory].\ntype lists struct {")
	for _, name := range tt.order {
		if t := tt.by[name]; t.reuse {
			p.line("%s []%s", lower(goName(name)), tt.goType(t.of))
		}
	}
	p.line("}\n")
	p.line("// The interface types over handles; [HandleType.Allows] says which handles each takes.\nconst (")
	first := true
	for _, name := range tt.order {
		if tt.by[name].kind == "handle" {
			if first {
				p.line("%s HandleType = iota + 1", goName(name))
			} else {
				p.line("%s", goName(name))
			}
			first = false
		}
	}
	p.line(")")
}

func rcName(s string) string {
	switch s {
	case "VALUE":
		return "Value"
	case "KDF":
		return "KDF"
	}
	return s[:1] + strings.ToLower(s[1:])
}

func (tt *typeTable) emitStruct(p *printer, t *typ) {
	g := goName(t.name)
	p.line("// %s is %s of Part 2.\ntype %s struct {", g, t.name, g)
	for _, f := range t.fields {
		p.line("%s %s", fieldName(f.name), tt.goType(f.typ))
	}
	p.line("}\n\nfunc (v *%s) decode(d *Decoder, null bool) {", g)
	for _, f := range t.fields {
		p.line("%s", tt.decode(f, "v."+fieldName(f.name)))
		if f.only != nil {
			conds := make([]string, len(f.only))
			for i, o := range f.only {
				conds[i] = "v." + fieldName(f.name) + " != " + o
			}
			p.line("if %s { d.fail(RC%s) }", strings.Join(conds, " && "), rcName(f.rc))
		}
	}
	p.line("}\n\nfunc (v *%s) encode(e *Encoder) {", g)
	for _, f := range t.fields {
		p.line("%s", tt.encode(f, "v."+fieldName(f.name)))
	}
	p.line("}\n")
}

func (tt *typeTable) emitUnion(p *printer, t *typ) {
	g := goName(t.name)
	p.line("// %s is %s of Part 2; the arm in use is the selector's, the others stay zero.\ntype %s struct {", g, t.name, g)
	for _, f := range t.fields {
		if f.name != "-" {
			p.line("%s %s // %s", fieldName(f.name), tt.goType(f.typ), strings.Join(f.arms, ", "))
		}
	}
	p.line("}\n\nfunc (v *%s) decode(d *Decoder, sel %s) {\nswitch sel {", g, t.of)
	for _, f := range t.fields {
		p.line("case %s:", strings.Join(f.arms, ", "))
		if f.name != "-" {
			p.line("%s", tt.decode(f, "v."+fieldName(f.name)))
		}
	}
	p.line("default:\nd.fail(RCSelector)\n}\n}\n\nfunc (v *%s) encode(e *Encoder, sel %s) {\nswitch sel {", g, t.of)
	for _, f := range t.fields {
		if f.name != "-" {
			p.line("case %s:\n%s", strings.Join(f.arms, ", "), tt.encode(f, "v."+fieldName(f.name)))
		}
	}
	p.line("}\n}\n")
}
