package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"github.com/vouchsafe/vouchsafe/chain"
	"github.com/vouchsafe/vouchsafe/internal/chainnet"
)

// firstFlight is the initial congestion window of RFC 6928: ten segments of
// 1448 bytes, as Ethernet with timestamps has them.
const firstFlight = 10 * 1448

// look sees what a server sends, in several handshakes; main is the one that
// counts. The name that o wants is the host's, where it wants none.
func (f *chainFlags) look(ctx context.Context, arg string, o *chain.Options) (sights []chainnet.Sight, main chainnet.Sight, err error) {
	host, port, err := net.SplitHostPort(arg)
	if err != nil {
		return nil, main, usageError{fmt.Errorf("%s: %w", arg, err)}
	}
	if f.starttls != "" && !slices.Contains(chainnet.Protocols, f.starttls) {
		return nil, main, usageError{fmt.Errorf("no STARTTLS for %q; known are %v", f.starttls, chainnet.Protocols)}
	}
	if o.Name == "" {
		o.Name = host
	}
	sights, err = chainnet.Probe(ctx, chainnet.Target{Host: host, Port: port, Name: o.Name, StartTLS: f.starttls})
	if err != nil {
		return nil, main, withHint(err, "does something listen there? %s", f.listenHint(arg))
	}
	i := slices.IndexFunc(sights, func(s chainnet.Sight) bool { return len(s.Chain) > 0 && s.Sent == o.Name })
	if i < 0 {
		i = slices.IndexFunc(sights, func(s chainnet.Sight) bool { return len(s.Chain) > 0 })
	}
	return sights, sights[i], nil
}

// remote looks at a server and diagnoses what it sends.
func (c *checker) remote(ctx context.Context, arg string) error {
	o := c.o
	sights, main, err := c.f.look(ctx, arg, &o)
	if err != nil {
		return err
	}
	if len(main.OCSP) > 0 {
		o.OCSP = append(slices.Clone(o.OCSP), main.OCSP)
	}
	r, _, err := c.f.check(ctx, arg, main.PEM(), o)
	if err != nil {
		return err
	}
	for _, f := range sightFindings(sights, main) {
		r.Add(f[0], f[1])
	}
	if c.against != "" {
		if err := c.compare(r, main); err != nil {
			return err
		}
	}
	return c.show(r)
}

func (f *chainFlags) listenHint(arg string) string {
	if f.starttls == "" {
		return "openssl s_client -connect " + arg
	}
	return "openssl s_client -starttls " + f.starttls + " -connect " + arg
}

// sightFindings compares the handshakes with each other: code and evidence.
func sightFindings(sights []chainnet.Sight, main chainnet.Sight) [][2]string {
	var out [][2]string
	seen := map[string]bool{}
	add := func(code, format string, args ...any) {
		if !seen[code] {
			seen[code] = true
			out = append(out, [2]string{code, fmt.Sprintf(format, args...)})
		}
	}
	for _, s := range sights {
		same := bytes.Equal(s.Leaf(), main.Leaf())
		switch {
		case s.Address != main.Address && len(s.Chain) == 0:
			add("ADDRESS_DIFFERS", "%s sends no certificate: %v", s.Address, s.Err)
		case s.Address != main.Address && !same:
			add("ADDRESS_DIFFERS", "%s sends certificate %s, %s sends %s", main.Address, print8(main.Leaf()), s.Address, print8(s.Leaf()))
		case s.Address != main.Address:
		case s.Sent != main.Sent && len(s.Chain) == 0:
			who := "without a server name"
			if s.Sent != "" {
				who = "for an unknown server name"
			}
			add("NAME_NEEDED", "%s: %v", who, s.Err)
		case s.Sent == "" && !same:
			add("NAME_NEEDED", "without a server name it sends certificate %s, with one %s", print8(s.Leaf()), print8(main.Leaf()))
		case s.Version != 0 && len(s.Chain) > 0 && !slices.EqualFunc(s.Chain, main.Chain, bytes.Equal):
			add("VERSION_DIFFERS", "%s gets %d certificates, %s gets %d", tls.VersionName(s.Version), len(s.Chain), tls.VersionName(main.Got), len(main.Chain))
		}
	}
	if main.Bytes > firstFlight {
		add("FIRST_FLIGHT", "%d bytes; the initial window takes %d", main.Bytes, firstFlight)
	}
	if leaf := chain.ParseCert(main.Leaf()); chain.MustStaple(leaf) && len(main.OCSP) == 0 && main.Err == nil {
		add("STAPLE_MISSING", "no OCSP response was stapled")
	}
	return out
}

func print8(der []byte) string {
	if len(der) == 0 {
		return "none"
	}
	s := sha256.Sum256(der)
	return fmt.Sprintf("%x…", s[:8])
}

// compare holds what the server sends against the file it is meant to send.
func (c *checker) compare(r *chain.Report, main chainnet.Sight) error {
	data, err := c.a.readInput(c.against)
	if err != nil {
		return err
	}
	var disk [][]byte
	for _, cert := range chain.Read(data, c.o.Password).Certs {
		disk = append(disk, cert.Raw)
	}
	switch {
	case len(disk) == 0:
		return withHint(fmt.Errorf("comparing with %s: no certificate in it", c.against), "vouchsafe chain check %s", c.against)
	case !bytes.Equal(disk[0], main.Leaf()):
		who := chain.ParseCert(main.Leaf())
		r.Add("SERVED_DIFFERS", fmt.Sprintf("the file's first certificate is %s, the server (%s) sends %s, issued by %s", print8(disk[0]), main.Address, print8(main.Leaf()), who.Issuer()))
	case !slices.EqualFunc(disk, main.Chain, bytes.Equal):
		r.Add("SERVED_DIFFERS", fmt.Sprintf("the same leaf, but %d certificates in the file and %d from the server", len(disk), len(main.Chain)))
	}
	return nil
}

// fetchAndCheck follows AIA when something is missing, and checks again.
func fetchAndCheck(ctx context.Context, input string, data []byte, r *chain.Report, o chain.Options) (*chain.Report, chain.Options) {
	if r.Verdict != chain.Error || r.Repair.Class != chain.ClassNetwork && r.Repair.Class != chain.ClassPool && r.Repair.Class != chain.ClassReissue && r.Repair.Class != chain.ClassNone || len(r.Repair.Chain) > 0 {
		return r, o
	}
	got := chainnet.FetchIssuers(ctx, r.File().Certs)
	if len(got.Certs) == 0 {
		return r, o
	}
	o.Fetched = chain.NewPool(got.Certs)
	o.Pool = chain.NewPool(append(slices.Clone(o.Pool.Certs()), got.Certs...))
	return chain.Check(input, data, o), o
}
