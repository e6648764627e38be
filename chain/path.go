package chain

import (
	"bytes"
	"slices"
	"sort"
)

// link says how well one certificate fits the one below it.
type link struct {
	signed bool // the key verifies the signature
	named  bool // issuer name = subject name
	keyID  int  // authority against subject key identifier: 1 same, -1 different, 0 unknown
}

func (l link) good() bool { return l.signed && l.named }

// path goes from a leaf towards a root.
type path struct {
	certs    []*Cert
	links    []link // links[i] joins certs[i] to certs[i+1]
	anchored bool   // the last certificate is a trust anchor
	faults   []fault
	cost     int
}

// above is what stands above c on the path.
func (p *path) above(c *Cert) []*Cert {
	if i := slices.Index(p.certs, c); i >= 0 {
		return p.certs[i+1:]
	}
	return nil
}

// finder looks for paths; it belongs to one check and remembers what it verified.
type finder struct {
	file  []*Cert // without duplicates
	roots *Store
	pool  *Store

	checks  int // signatures verified
	steps   int
	spent   bool // a bound was reached
	verdict map[[2]*Cert]bool
}

func newFinder(file []*Cert, roots, pool *Store) *finder {
	return &finder{file: file, roots: roots, pool: pool, verdict: map[[2]*Cert]bool{}}
}

func (f *finder) verifies(parent, child *Cert) bool {
	key := [2]*Cert{parent, child}
	if v, ok := f.verdict[key]; ok {
		return v
	}
	if f.checks >= maxSignatureChecks {
		f.spent = true
		return false
	}
	f.checks++
	v := verifies(parent, child)
	f.verdict[key] = v
	return v
}

func (f *finder) link(child, parent *Cert) link {
	l := link{named: len(child.issuer) > 0 && child.nameKeys[1] == parent.nameKeys[0]}
	if len(child.aki) > 0 && len(parent.ski) > 0 {
		l.keyID = -1
		if bytes.Equal(child.aki, parent.ski) {
			l.keyID = 1
		}
	}
	l.signed = f.verifies(parent, child)
	return l
}

// candidates lists who may have issued c, best first: trust anchors, the file,
// the pool; within each, those whose key identifier fits.
func (f *finder) candidates(c *Cert, usePool, broken bool) []*Cert {
	var out []*Cert
	seen := map[[32]byte]bool{c.sha: true}
	take := func(from []*Cert) {
		start := len(out)
		for _, p := range from {
			if !seen[p.sha] && len(out) < maxCandidates {
				seen[p.sha] = true
				out = append(out, p)
			}
		}
		sort.SliceStable(out[start:], func(i, j int) bool {
			return f.rank(c, out[start+i]) > f.rank(c, out[start+j])
		})
	}
	name := c.nameKeys[1]
	if len(c.issuer) == 0 {
		name = "\x00none"
	}
	take(f.roots.named(name))
	if broken {
		take(f.roots.keyed(c.aki))
	}
	var own []*Cert
	for _, p := range f.file {
		if p.nameKeys[0] == name || broken && len(c.aki) > 0 && bytes.Equal(p.ski, c.aki) {
			own = append(own, p)
		}
	}
	take(own)
	if broken && len(out) == 0 && len(c.aki) == 0 {
		// No name, no identifier: only the signature can say who it was.
		take(f.file)
		if f.roots.Len() <= maxCandidates/4 {
			take(f.roots.Certs())
		}
	}
	if usePool {
		take(f.pool.named(name))
		if broken {
			take(f.pool.keyed(c.aki))
		}
	}
	return out
}

func (f *finder) rank(c, p *Cert) int {
	if len(c.aki) == 0 || len(p.ski) == 0 {
		return 0
	}
	if bytes.Equal(c.aki, p.ski) {
		return 1
	}
	return -1
}

// complete finds every sound path (RFC 5280, Section 6.1: names chain and
// signatures verify) from leaf to a trust anchor, within the bounds.
func (f *finder) complete(leaf *Cert, usePool bool) []*path {
	var found []*path
	var walk func(p path)
	walk = func(p path) {
		if f.steps++; f.steps > maxSteps || len(found) >= maxPaths {
			f.spent = true
			return
		}
		top := p.certs[len(p.certs)-1]
		if a := f.roots.holds(top); a != nil {
			q := p
			q.certs = slices.Clone(p.certs)
			q.certs[len(q.certs)-1] = preferFile(a, top)
			q.anchored = true
			found = append(found, &q)
			return
		}
		if len(p.certs) >= maxDepth {
			return
		}
		for _, c := range f.candidates(top, usePool, false) {
			if c.X == nil || repeats(p.certs, c) {
				continue
			}
			if l := f.link(top, c); l.good() {
				walk(path{certs: append(slices.Clone(p.certs), c), links: append(slices.Clone(p.links), l)})
			}
		}
	}
	if leaf.X != nil {
		walk(path{certs: []*Cert{leaf}})
	}
	return found
}

// preferFile keeps the file's own copy of an anchor, so that its place is known.
func preferFile(anchor, own *Cert) *Cert {
	if own.sha == anchor.sha {
		return own
	}
	return anchor
}

// repeats says that c, or the same CA under another certificate, is already on
// the path: that ends every loop (RFC 4158, Section 2.4.2).
func repeats(certs []*Cert, c *Cert) bool {
	for _, p := range certs {
		if p == c || p.sha == c.sha || sameKeyAndName(p, c) && bytes.Equal(sanOf(p), sanOf(c)) {
			return true
		}
	}
	return false
}

// sanOf returns the subject alternative name: RFC 4158 counts it to the name.
func sanOf(c *Cert) []byte {
	if c.X == nil {
		return nil
	}
	for _, e := range c.X.Extensions {
		if e.Id.Equal(oidSAN) {
			return e.Value
		}
	}
	return nil
}

// What a fault of a path costs: the path that explains a broken file best is
// the cheapest one. A wrong certificate in the right place is likelier than one
// missing beside one too many.
const (
	costUnanchored = 70
	costUnsigned   = 40
	costDamaged    = 25
	costRenamed    = 40
	costChanged    = 60 // the key identifiers fit, neither name nor signature does
	costFromPool   = 30
	costFromPool2  = 5
	costUnused     = 45
	costFault      = 10
)

// likely finds the path that explains the file best although links are broken:
// damaged certificates, wrong keys, wrong names and gaps are allowed, at a cost.
func (f *finder) likely(leaf *Cert, price func(*path) int) *path {
	var best *path
	steps := 0
	consider := func(p path) {
		q := p
		q.certs, q.links = slices.Clone(p.certs), slices.Clone(p.links)
		q.cost += price(&q) - len(q.certs) // of two, the one that goes further
		if best == nil || q.cost < best.cost {
			best = &q
		}
	}
	var walk func(p path, broken int)
	walk = func(p path, broken int) {
		if steps++; steps > maxSteps/4 || best != nil && p.cost > best.cost {
			return
		}
		top := p.certs[len(p.certs)-1]
		if a := f.roots.holds(top); a != nil {
			p.certs[len(p.certs)-1] = preferFile(a, top)
			p.anchored = true
			consider(p)
			return
		}
		cost := p.cost
		p.cost += costUnanchored
		consider(p)
		p.cost = cost
		if len(p.certs) >= maxDepth/2+2 {
			return
		}
		for _, c := range f.candidates(top, true, broken < 3) {
			if slices.Contains(p.certs, c) || repeats(p.certs, c) {
				continue
			}
			l := f.link(top, c)
			q := path{certs: append(slices.Clone(p.certs), c), links: append(slices.Clone(p.links), l), cost: cost}
			b := broken
			switch {
			case l.good():
			case c.origin == fromPool:
				continue // the pool fills gaps, it does not explain them
			case l.signed:
				q.cost += costRenamed
				b++
			case top.X == nil && l.named:
				// What is cut cannot be verified; that is counted where it is cut.
			case top.X == nil && l.keyID == 1:
				q.cost += costRenamed
			case c.X == nil && len(c.spki) == 0 && l.named:
			case l.named:
				q.cost += costUnsigned
				if l.keyID == 1 {
					q.cost -= 10
				}
				b++
			case l.keyID == 1:
				q.cost += costChanged
				b++
			default:
				continue
			}
			if c.X == nil {
				q.cost += costDamaged
			}
			if c.origin == fromPool {
				q.cost += costFromPool2
				if top.origin != fromPool {
					q.cost += costFromPool - costFromPool2
				}
			}
			if b <= 3 {
				walk(q, b)
			}
		}
	}
	start := path{certs: []*Cert{leaf}}
	if leaf.X == nil {
		start.cost += costDamaged
	}
	walk(start, 0)
	return best
}
