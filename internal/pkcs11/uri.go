package pkcs11

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// URI names a key: token and object, and where the library is (RFC 7512).
type URI struct {
	Token, Manufacturer, Serial, Model string // of the token; empty: any
	Object                             string // label; empty: any
	ID                                 []byte // CKA_ID; nil: any
	ModulePath                         string // the library; empty: one that p11-kit knows
	PINSource                          string // "file:/…" or a path
}

// maxURI bounds a URI: a few names of at most 32 characters, and a path.
const maxURI = 4096

// ErrPINInURI means that the URI has the PIN in it. Everybody on the machine can
// read it there, in the list of processes: put it in a file.
var ErrPINInURI = errors.New("the URI has the PIN in it (pin-value), where everybody on this machine can read it")

// ParseURI reads a PKCS#11 URI, strictly: an attribute that is not understood
// might have narrowed the choice of a key, so it is an error (RFC 7512, 2.3).
func ParseURI(s string) (*URI, error) {
	fail := func(format string, args ...any) (*URI, error) {
		return nil, fmt.Errorf("reading the PKCS#11 URI: "+format, args...)
	}
	rest, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok || len(s) > maxURI {
		return fail("it begins with pkcs11: and has at most %d characters", maxURI)
	}
	path, query, _ := strings.Cut(rest, "?")
	u := new(URI)
	seen := map[string]bool{}
	read := func(part, separator string, known map[string]*string) error {
		for part != "" {
			var attr string
			attr, part, _ = strings.Cut(part, separator)
			name, value, ok := strings.Cut(attr, "=")
			if !ok {
				return fmt.Errorf("reading the PKCS#11 URI: %.64q is no attribute", attr)
			}
			if seen[name] {
				return fmt.Errorf("reading the PKCS#11 URI: %s is there twice", name)
			}
			seen[name] = true
			text, err := url.PathUnescape(value)
			if err != nil {
				return fmt.Errorf("reading the PKCS#11 URI: %s: %v", name, err)
			}
			to := known[name]
			if name == "pin-value" {
				return ErrPINInURI
			}
			if to == nil {
				return fmt.Errorf("reading the PKCS#11 URI: %.32q is not understood", name)
			}
			*to = text
		}
		return nil
	}
	var id, kind string
	if err := read(path, ";", map[string]*string{"token": &u.Token, "manufacturer": &u.Manufacturer, "serial": &u.Serial, "model": &u.Model,
		"object": &u.Object, "id": &id, "type": &kind}); err != nil {
		return nil, err
	}
	if err := read(query, "&", map[string]*string{"module-path": &u.ModulePath, "pin-source": &u.PINSource}); err != nil {
		return nil, err
	}
	if kind != "" && kind != "private" {
		return fail("type=%.20s: what signs is type=private", kind)
	}
	for _, name := range []string{u.Token, u.Manufacturer, u.Serial, u.Model} {
		if len(name) > 32 {
			return fail("a token's names have at most 32 characters (PKCS#11, 3.2)")
		}
	}
	if id != "" {
		u.ID = []byte(id)
	}
	if u.ModulePath != "" && !strings.HasPrefix(u.ModulePath, "/") {
		return fail("module-path is %.64q; want a path from /", u.ModulePath)
	}
	return u, nil
}

// TokenURI is the part of the URI that names a token, for p11-kit.
func (u *URI) TokenURI() string {
	var out []string
	for _, a := range [][2]string{{"model", u.Model}, {"manufacturer", u.Manufacturer}, {"serial", u.Serial}, {"token", u.Token}} {
		if a[1] != "" {
			out = append(out, a[0]+"="+strings.ReplaceAll(url.QueryEscape(a[1]), "+", "%20"))
		}
	}
	return "pkcs11:" + strings.Join(out, ";")
}
