package modsig

import (
	"regexp"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// logPattern is one line that kernels, modprobe and insmod write about
// modules. Groups of the expression become the finding's arguments, the group
// named "module" its subject.
type logPattern struct {
	code string
	re   *regexp.Regexp
}

var logPatterns = []logPattern{
	{"MODULE_NOT_VERIFIED", regexp.MustCompile(`(?P<module>[\w-]+): module verification failed: signature and/or required key missing`)},
	{"MODULE_UNSIGNED", regexp.MustCompile(`Loading of unsigned module is rejected`)},
	{"MODULE_UNKNOWN_KEY", regexp.MustCompile(`Loading of module with unavailable key is rejected`)},
	{"MODULE_SIGNATURE_UNSUPPORTED", regexp.MustCompile(`Loading of module with unsupported crypto is rejected|not signed with expected PKCS#7 message|Unsupported (?:digest|pkey) algo`)},
	{"MODULE_SIGNED_ATTRIBUTES", regexp.MustCompile(`Invalid module sig \(has authattrs\)`)},
	{"MODULE_SIGNATURE_MALFORMED", regexp.MustCompile(`PKCS#7 signature info has unexpected non-zero params|PKCS7: (?:Unsupported data type|Only support pkcs7_signedData type)`)},
	{"MODULE_HASH_FORBIDDEN", regexp.MustCompile(`Module hash [0-9a-f]+ is blacklisted`)},
	{"MODULE_CERTIFICATE_FORBIDDEN", regexp.MustCompile(`X\.509: Cert [0-9a-f]+ is blacklisted`)},
	{"MODULE_LOCKDOWN", regexp.MustCompile(`Lockdown: [^:]+: unsigned module loading is restricted`)},
	{"MODULE_OTHER_KERNEL", regexp.MustCompile(`(?P<module>[\w-]+): version magic '(\S+)[^']*' should be '(\S+)`)},
	{"MODULE_SYMBOL_VERSION", regexp.MustCompile(`(?P<module>[\w-]+): disagrees about version of symbol (\w+)`)},
	{"MODULE_SYMBOL_VERSION", regexp.MustCompile(`module (?P<module>[\w-]+): (\.gnu\.linkonce\.this_module) section size must match`)},
	{"MODULE_NOT_ELF", regexp.MustCompile(`Invalid ELF (?:header|section)`)},
	{"MODULE_CERT_NOT_LOADED", regexp.MustCompile(`Problem loading (?:in-kernel )?X\.509 certificate \(?(-\d+)`)},
	{"MODULE_BTF_MISMATCH", regexp.MustCompile(`failed to validate module \[(?P<module>[\w-]+)\] BTF`)},
	{"MODULE_OUT_OF_TREE", regexp.MustCompile(`(?P<module>[\w-]+): loading out-of-tree module taints kernel`)},
	// What modprobe, insmod and systemd-modules-load say of the errno.
	{"MODULE_REJECTED_SILENTLY", regexp.MustCompile(`(?:insert|insert module) '?(?P<module>[\w./-]+?)(?:\.ko[.\w]*)?'?: Key was rejected by service`)},
	{"MODULE_UNKNOWN_KEY", regexp.MustCompile(`(?:insert|insert module) '?(?P<module>[\w./-]+?)(?:\.ko[.\w]*)?'?: Required key not available`)},
	{"MODULE_SIGNATURE_UNSUPPORTED", regexp.MustCompile(`(?:insert|insert module) '?(?P<module>[\w./-]+?)(?:\.ko[.\w]*)?'?: Package not installed`)},
	{"MODULE_SIGNATURE_MALFORMED", regexp.MustCompile(`(?:insert|insert module) '?(?P<module>[\w./-]+?)(?:\.ko[.\w]*)?'?: Bad message`)},
}

// logWords are in every line that a pattern matches: most lines of a log have
// none, and cost no regular expression.
var logWords = []string{"module", "algo", "Invalid ELF", "certificate", "PKCS", "insert", "version", "taints", "blacklisted"}

// Explain turns one line of a kernel's log, or of modprobe's words, into its
// cause and remedy. Most lines have nothing to do with modules: ok is false.
func Explain(line string) (f finding.Finding, ok bool) {
	if len(line) > maxLogLine {
		line = line[:maxLogLine]
	}
	found := false
	for _, w := range logWords {
		found = found || strings.Contains(line, w)
	}
	if !found {
		return f, false
	}
	for _, p := range logPatterns {
		m := p.re.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		subject, args := "", []string{}
		for i, name := range p.re.SubexpNames() {
			switch {
			case i == 0:
			case name == "module":
				subject = m[i]
			default:
				args = append(args, m[i])
			}
		}
		return Findings.New(p.code, subject, printable(line), args...), true
	}
	return f, false
}

// printable keeps what a log may hold from moving the reader's cursor.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.TrimSpace(line))
}
