package chain

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// subtrees are the name constraints of one CA: RFC 5280, Section 4.2.1.10.
type subtrees struct {
	permitted, excluded []generalName
}

// generalName is one GeneralName: its context tag (0 otherName, 1 rfc822Name,
// 2 dNSName, 4 directoryName, 6 URI, 7 iPAddress) and its content.
type generalName struct {
	tag   int
	value []byte
}

var errConstraints = errors.New("name constraints that cannot be read")

func parseConstraints(der []byte) (s subtrees, err error) {
	outer, rest, ok := nextTLV(der)
	if !ok || outer.cut || outer.tag != 0x30 || len(rest) > 0 {
		return s, errConstraints
	}
	for body := outer.body; len(body) > 0; {
		list, rest, ok := nextTLV(body)
		if !ok || list.cut || list.tag != 0xA0 && list.tag != 0xA1 || len(list.body) == 0 {
			return s, errConstraints
		}
		body = rest
		for inner := list.body; len(inner) > 0; {
			tree, next, ok := nextTLV(inner)
			if !ok || tree.cut || tree.tag != 0x30 {
				return s, errConstraints
			}
			inner = next
			base, more, ok := nextTLV(tree.body)
			// minimum is always 0 and maximum absent: anything after the base is wrong.
			if !ok || base.cut || len(more) > 0 {
				return s, errConstraints
			}
			g := generalName{int(base.tag & 0x1F), base.body}
			if !validConstraint(g) {
				return s, fmt.Errorf("a constraint that is no %s: %s", g.kind(), clip(string(g.value)))
			}
			if list.tag == 0xA0 {
				s.permitted = append(s.permitted, g)
			} else {
				s.excluded = append(s.excluded, g)
			}
		}
	}
	if len(s.permitted)+len(s.excluded) == 0 {
		return s, errConstraints
	}
	return s, nil
}

func (g generalName) kind() string {
	switch g.tag {
	case 0:
		return "otherName"
	case 1:
		return "e-mail address"
	case 2:
		return "DNS name"
	case 4:
		return "directory name"
	case 6:
		return "URI"
	case 7:
		return "IP address"
	}
	return "name"
}

func (g generalName) String() string {
	switch g.tag {
	case 4:
		return nameText(g.value)
	case 7:
		if len(g.value) == 4 || len(g.value) == 16 {
			return ipText(g.value)
		}
		if n := len(g.value) / 2; n == 4 || n == 16 {
			return ipText(g.value[:n]) + "/" + ipText(g.value[n:])
		}
	case 1, 2, 6:
		return clipName(string(g.value))
	}
	return g.kind()
}

func validConstraint(g generalName) bool {
	switch g.tag {
	case 2:
		// A leading dot is not in RFC 5280 but in many CAs; a wildcard is nobody's.
		name := string(g.value)
		return name == "" || validHost(strings.TrimPrefix(strings.ToLower(name), "."), false) && !strings.HasPrefix(name, "..")
	case 7:
		n := len(g.value) / 2
		if len(g.value) != 8 && len(g.value) != 32 {
			return false
		}
		return contiguous(g.value[n:])
	case 1:
		_, host, at := strings.Cut(string(g.value), "@")
		if !at {
			host = string(g.value)
		}
		return validHost(strings.TrimPrefix(strings.ToLower(host), "."), false)
	}
	return true
}

// contiguous says that a mask is ones, then zeros.
func contiguous(mask []byte) bool {
	zero := false
	for _, b := range mask {
		for bit := 7; bit >= 0; bit-- {
			one := b>>bit&1 == 1
			if one && zero {
				return false
			}
			zero = zero || !one
		}
	}
	return true
}

// namesOf lists the names of a certificate that constraints apply to: its
// subject, its subjectAltName, and e-mail addresses in the subject.
func namesOf(c *Cert) []generalName {
	var out []generalName
	x := c.X
	if len(x.Subject.Names) > 0 {
		out = append(out, generalName{4, x.RawSubject})
	}
	san, _, ok := extension(x, oidSAN)
	if !ok {
		for _, n := range x.Subject.Names {
			// RFC 5280, Section 4.2.1.10: emailAddress counts when there is no SAN.
			if s, isText := n.Value.(string); isText && n.Type.String() == "1.2.840.113549.1.9.1" {
				out = append(out, generalName{1, []byte(s)})
			}
		}
		return out
	}
	seq, _, _ := nextTLV(san)
	for body := seq.body; len(body) > 0; {
		e, rest, ok := nextTLV(body)
		if !ok {
			break
		}
		out = append(out, generalName{int(e.tag & 0x1F), e.body})
		body = rest
	}
	return out
}

// checkConstraints applies each CA's constraints to everything below it. Self-
// issued intermediates are exempt (RFC 5280, Section 6.1.3 (b)), the leaf is not.
func checkConstraints(p *path, add adder) {
	type constrained struct {
		names []generalName
		cert  *Cert
	}
	var below []constrained
	work := 0
	for i, c := range p.certs {
		if c.X == nil {
			continue
		}
		if raw, _, ok := extension(c.X, oidNameConstraints); ok && i > 0 {
			s, err := parseConstraints(raw)
			if err != nil {
				add("NAME_CONSTRAINT", c, err.Error(), c.short(), err.Error())
				continue
			}
			for _, b := range below {
				work += len(b.names) * (len(s.permitted) + len(s.excluded))
				if work > maxNames {
					add("NAME_CONSTRAINT", c, fmt.Sprintf("more than %d comparisons of names and constraints", maxNames), c.short(), "too many names")
					return
				}
				for _, n := range b.names {
					if why := s.refuses(n); why != "" {
						add("NAME_CONSTRAINT", b.cert, fmt.Sprintf("%s %s, but %s %s", n.kind(), n, c.short(), why), c.short(), n.String())
						break
					}
				}
			}
		}
		if i == 0 || !c.selfIssued() {
			below = append(below, constrained{namesOf(c), c})
		}
	}
}

func (s subtrees) refuses(n generalName) string {
	for _, g := range s.excluded {
		if g.tag == n.tag && g.covers(n, true) {
			return "excludes " + g.String()
		}
	}
	any := false
	for _, g := range s.permitted {
		if g.tag != n.tag {
			continue
		}
		any = true
		if g.covers(n, false) {
			return ""
		}
	}
	if any {
		return "permits only others"
	}
	return ""
}

// covers says that a name lies in the subtree g. excluding asks whether any
// name that n stands for could: a wildcard stands for many.
func (g generalName) covers(n generalName, excluding bool) bool {
	switch g.tag {
	case 1:
		return mailIn(string(n.value), strings.ToLower(string(g.value)), excluding)
	case 2:
		name, base := hostName(string(n.value)), strings.ToLower(string(g.value))
		if !validHost(name, true) {
			return excluding // a name nobody can compare is in no permitted tree
		}
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			if hostIn(rest, base) {
				return true
			}
			// *.example.com covers www.example.com, which may be excluded.
			_, parent, found := strings.Cut(strings.TrimPrefix(base, "."), ".")
			return excluding && found && parent == rest
		}
		return hostIn(name, base)
	case 4:
		return dnIn(n.value, g.value)
	case 6:
		u, err := url.Parse(string(n.value))
		if err != nil || u.Hostname() == "" {
			return excluding
		}
		host, base := strings.ToLower(u.Hostname()), strings.ToLower(string(g.value))
		if strings.HasPrefix(base, ".") {
			return strings.HasSuffix(host, base)
		}
		return host == base
	case 7:
		half := len(g.value) / 2
		if len(n.value) != half {
			return len(n.value) != 4 && len(n.value) != 16 && excluding
		}
		for i := range half {
			if (n.value[i]^g.value[i])&g.value[half+i] != 0 {
				return false
			}
		}
		return true
	default:
		// otherName and the rest: the type must be the same, the value is opaque.
		return bytes.HasPrefix(n.value, firstElement(g.value))
	}
}

// firstElement is the type-id of an otherName.
func firstElement(b []byte) []byte {
	if e, _, ok := nextTLV(b); ok {
		return e.full
	}
	return b
}

// hostIn: a constraint covers the name itself and everything below it; with a
// leading dot only what is below.
func hostIn(name, base string) bool {
	switch {
	case base == "":
		return true
	case strings.HasPrefix(base, "."):
		return strings.HasSuffix(name, base)
	}
	return name == base || strings.HasSuffix(name, "."+base)
}

// mailIn: a whole address, a host, or with a leading dot every host in a domain.
func mailIn(addr, base string, excluding bool) bool {
	at := strings.LastIndexByte(addr, '@')
	if at <= 0 || !validHost(strings.ToLower(addr[at+1:]), false) {
		return excluding
	}
	local, host := addr[:at], strings.ToLower(addr[at+1:])
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return local == base[:i] && host == base[i+1:] || strings.ToLower(local) == base[:i] && host == base[i+1:] && excluding
	}
	if strings.HasPrefix(base, ".") {
		return strings.HasSuffix(host, base)
	}
	return host == base
}

// dnIn: the constraint's RDNs are the first of the name (RFC 5280, Section 7.1).
func dnIn(name, base []byte) bool {
	n, _, _ := nextTLV(name)
	b, _, ok := nextTLV(base)
	if !ok {
		return false
	}
	have, want := elements(n.body, 64), elements(b.body, 64)
	if len(want) > len(have) {
		return false
	}
	for i, w := range want {
		if !rdnEqual(wrapTLV(0x30, w.full), wrapTLV(0x30, have[i].full)) {
			return false
		}
	}
	return true
}

func ipText(b []byte) string {
	if len(b) == 4 {
		return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
	}
	var s []string
	for i := 0; i+1 < len(b); i += 2 {
		s = append(s, fmt.Sprintf("%x", int(b[i])<<8|int(b[i+1])))
	}
	return strings.Join(s, ":")
}
