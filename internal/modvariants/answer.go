package variants

import (
	"regexp"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// Answer is what a kernel said about one variant.
type Answer struct {
	Errno string   // empty: loaded
	Taint string   // "E" or empty
	Log   []string // as [Normal] leaves it
}

// Boot compares answers with predictions in the order of one boot, for there
// are lines that a kernel does not say twice.
type Boot struct {
	warned    bool
	lockdowns int
}

// Agrees tells whether got is what was predicted, and what the log should
// have been.
func (b *Boot) Agrees(want modsig.Outcome, got Answer) (bool, []string) {
	taint := ""
	if want.Taints {
		taint = "E"
	}
	var log []string
	if want.Message != "" {
		log = strings.Split(want.Message, "\n")
	}
	warning := func(l string) bool { return strings.HasSuffix(l, " - tainting kernel") }
	warns := slices.ContainsFunc(log, warning)
	if b.warned {
		log = slices.DeleteFunc(log, warning)
	}
	b.warned = b.warned || warns
	if i := slices.IndexFunc(log, func(l string) bool { return strings.HasPrefix(l, "Lockdown: ") }); i >= 0 {
		// Ten such lines in five seconds, boot included, and no more.
		if b.lockdowns++; b.lockdowns > 8 && !slices.Contains(got.Log, log[i]) {
			log = slices.Delete(log, i, i+1)
		}
	}
	return got.Errno == want.Errno && got.Taint == taint && slices.Equal(got.Log, log), log
}

var (
	// noise is what the kernel says at the time of a load about other things:
	// the clock, its crypto self-tests, an OID unknown to it (a better line
	// follows), and type information of another build, which it goes on without.
	noise  = regexp.MustCompile(`^(tsc|clocksource|hrtimer|alg|random|BPF|input|PKCS7: Unknown OID): ?|^failed to validate module \[dummy\] BTF`)
	caller = regexp.MustCompile(`^Lockdown: \w+:`)
	number = regexp.MustCompile(`^((?:PKCS7: )?Unsupported (?:digest algo|pkey algo|data type))(?::)? \d+$`)
)

// Normal drops what has nothing to do with the verdict: noise, the caller's
// name, and the kernel's own numbers for OIDs.
func Normal(log []string) (out []string) {
	for _, l := range log {
		if !noise.MatchString(l) {
			out = append(out, number.ReplaceAllString(caller.ReplaceAllString(l, "Lockdown: modprobe:"), "$1"))
		}
	}
	return out
}
