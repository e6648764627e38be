package chain

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
)

// checkName holds the name asked for against the names in the leaf: RFC 9525
// for hosts and addresses. The common name does not count (RFC 9525, Section 2).
func checkName(leaf *Cert, o *Options, add adder) {
	x := leaf.X
	if o.Purpose == Server && !hasSAN(x) {
		what := "no subjectAltName"
		if x.Subject.CommonName != "" {
			what += "; only CN=" + clipName(x.Subject.CommonName)
		}
		add("NO_SAN", leaf, what)
		return
	}
	if o.Name == "" {
		return
	}
	if strings.Contains(o.Name, "@") {
		for _, m := range x.EmailAddresses {
			if strings.EqualFold(m, o.Name) {
				return
			}
		}
	} else if addr, err := netip.ParseAddr(strings.Trim(o.Name, "[]")); err == nil {
		for _, ip := range x.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == addr.Unmap() {
				return
			}
		}
	} else {
		host := hostName(o.Name)
		for _, pattern := range x.DNSNames {
			if matchHost(pattern, host) {
				return
			}
		}
	}
	if o.Purpose == CA || o.Purpose == CodeSign || o.Purpose == Module {
		return
	}
	add("NAME_MISMATCH", leaf, fmt.Sprintf("asked for %s; the certificate has %s", clipName(o.Name), nameList(x)), clipName(o.Name), nameList(x))
}

func hasSAN(x *x509.Certificate) bool {
	_, _, ok := extension(x, oidSAN)
	return ok
}

func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// matchHost compares a dNSName with a host: a wildcard is the whole leftmost
// label, and stands for exactly one (RFC 9525, Section 6.3).
func matchHost(pattern, host string) bool {
	pattern = hostName(pattern)
	if !validHost(pattern, true) || !validHost(host, false) {
		return false
	}
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, parent, found := strings.Cut(host, ".")
		return found && parent == rest
	}
	return pattern == host
}

// validHost accepts names of letters, digits, hyphens and (as hosts in the
// wild have them) underscores.
func validHost(s string, pattern bool) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for i, l := range labels {
		if l == "" || len(l) > 63 {
			return false
		}
		if pattern && i == 0 && l == "*" {
			if len(labels) < 2 {
				return false
			}
			continue
		}
		for j, c := range []byte(l) {
			ok := isLetter(c) || c >= '0' && c <= '9' || c == '_' || c == '-' && j > 0 && j < len(l)-1 || c == '-' && j == len(l)-1
			if !ok {
				return false
			}
		}
	}
	return true
}

// nameList shows the names in a certificate, not all ten thousand of them.
func nameList(x *x509.Certificate) string {
	var names []string
	names = append(names, x.DNSNames...)
	for _, ip := range x.IPAddresses {
		names = append(names, ip.String())
	}
	names = append(names, x.EmailAddresses...)
	for _, u := range x.URIs {
		names = append(names, u.String())
	}
	more := ""
	if len(names) > 5 {
		more = fmt.Sprintf(" … (%d names)", len(names))
		names = names[:5]
	}
	for i, n := range names {
		names[i] = clipName(n)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ") + more
}
