package main

import (
	"fmt"
	"strings"
)

// A command is one paragraph of commands.tbl.
type command struct {
	name    string // NV_Read
	code    string
	flags   []string
	handles []handle
	in, out []field
	rhandle string
}

type handle struct {
	name, typ, role string
	null            bool
}

func parseCommands(table string) ([]command, error) {
	var out []command
	for _, l := range rows(table) {
		w := strings.Fields(l)
		if !strings.HasPrefix(l, " ") {
			out = append(out, command{name: w[0], code: w[1], flags: w[2:]})
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("commands.tbl: %q belongs to no command", l)
		}
		c := &out[len(out)-1]
		switch w[0] {
		case "handles":
			for _, s := range w[1:] {
				h := handle{role: "None"}
				if r, rest, ok := strings.Cut(s, ":"); ok && strings.HasPrefix(r, "@") {
					h.role, s = strings.ToUpper(r[1:2])+r[2:], rest
				}
				h.name, h.typ, _ = strings.Cut(s, ":")
				h.typ, h.null = strings.CutSuffix(h.typ, "+")
				c.handles = append(c.handles, h)
			}
		case "in", "out":
			var fs []field
			for _, s := range w[1:] {
				n, t, _ := strings.Cut(s, ":")
				f := field{name: n}
				f.typ, f.null = strings.CutSuffix(t, "+")
				fs = append(fs, f)
			}
			if w[0] == "in" {
				c.in = fs
			} else {
				c.out = fs
			}
		case "rhandle":
			c.rhandle = w[1]
		default:
			return nil, fmt.Errorf("commands.tbl: unknown row %q", l)
		}
	}
	return out, nil
}

// paramTypes are Part 2 types that commands.tbl names and the codec knows under another name.
var paramTypes = map[string]string{"TPM_CC": "CC", "TPM_CAP": "CAP", "TPM_RC": "RC", "TPM_ALG_ID": "AlgID"}

func emitCommands(p *printer, tt *typeTable, cs []command) {
	p.line("// Command codes (Part 2, 6.5.2).\nconst (")
	for _, c := range cs {
		p.line("CC%s CC = %s", ident(c.name), c.code)
	}
	p.line(")\n")
	for _, c := range cs {
		for _, fs := range [][]field{c.in, c.out} {
			for i := range fs {
				if t, ok := paramTypes[fs[i].typ]; ok {
					fs[i].typ = t
				}
			}
		}
		emitCommand(p, tt, c)
		emitResponse(p, tt, c)
	}
	p.line("var commands = []CommandInfo{")
	for _, c := range cs {
		p.line("{Code: CC%s, Name: %q,", ident(c.name), c.name)
		if c.handles != nil {
			p.line("Handles: []HandleInfo{")
			for _, h := range c.handles {
				p.line("{Name: %q, Type: %s, Null: %v, Role: Role%s},", h.name, handleType(h.typ), h.null, h.role)
			}
			p.line("},")
		}
		for _, f := range c.flags {
			p.line("%s: true,", map[string]string{"nv": "NV", "extensive": "Extensive", "flushed": "Flushed", "nosessions": "NoSessions"}[f])
		}
		p.line("ResponseHandle: %v, Decrypt: %v, Encrypt: %v,", c.rhandle != "", sizedFirst(tt, c.in), sizedFirst(tt, c.out))
		p.line("NewCommand: func() Command { return new(%s) }, NewResponse: func() Response { return new(%sResponse) },", ident(c.name), ident(c.name))
		p.line("},")
	}
	p.line("}")
}

// ident makes NV_Read into NVRead.
func ident(name string) string { return strings.ReplaceAll(name, "_", "") }

// sizedFirst reports whether the first parameter can be encrypted (Part 1, 18.1).
func sizedFirst(tt *typeTable, fs []field) bool {
	if len(fs) == 0 {
		return false
	}
	t := tt.by[fs[0].typ]
	return t != nil && (t.kind == "buf" || t.kind == "sized")
}

func emitCommand(p *printer, tt *typeTable, c command) {
	g := ident(c.name)
	p.line("// %s is the command TPM2_%s of Part 3.\ntype %s struct {", g, c.name, g)
	for _, h := range c.handles {
		p.line("%s Handle // %s", fieldName(h.name), h.typ)
	}
	for _, f := range c.in {
		p.line("%s %s", fieldName(f.name), tt.goType(f.typ))
	}
	p.line("}\n\nfunc (*%s) CommandCode() CC { return CC%s }\n", g, g)
	p.line("func (v *%s) SetHandles(h []Handle) {", g)
	for i, h := range c.handles {
		p.line("v.%s = h[%d]", fieldName(h.name), i)
	}
	p.line("}\n\nfunc (v *%s) AppendHandles(h []Handle) []Handle {", g)
	if len(c.handles) == 0 {
		p.line("return h\n}\n")
	} else {
		var names []string
		for _, h := range c.handles {
			names = append(names, "v."+fieldName(h.name))
		}
		p.line("return append(h, %s)\n}\n", strings.Join(names, ", "))
	}
	emitParams(p, tt, g, c.in)
}

func emitResponse(p *printer, tt *typeTable, c command) {
	g := ident(c.name) + "Response"
	p.line("// %s is the response to TPM2_%s.\ntype %s struct {", g, c.name, g)
	if c.rhandle != "" {
		p.line("%s Handle", fieldName(c.rhandle))
	}
	for _, f := range c.out {
		p.line("%s %s", fieldName(f.name), tt.goType(f.typ))
	}
	p.line("}\n\nfunc (v *%s) HandleField() *Handle {", g)
	if c.rhandle != "" {
		p.line("return &v.%s\n}\n", fieldName(c.rhandle))
	} else {
		p.line("return nil\n}\n")
	}
	emitParams(p, tt, g, c.out)
}

func emitParams(p *printer, tt *typeTable, g string, fs []field) {
	p.line("func (v *%s) DecodeParameters(d *Decoder) {", g)
	for i, f := range fs {
		p.line("d.param = %d", i+1)
		p.line("%s", tt.decode(f, "v."+fieldName(f.name)))
		p.line("if d.rc != 0 { return }")
	}
	p.line("d.param = 0\n}\n\nfunc (v *%s) EncodeParameters(e *Encoder) {", g)
	for _, f := range fs {
		p.line("%s", tt.encode(f, "v."+fieldName(f.name)))
	}
	p.line("}\n")
}
