package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vouchsafe/vouchsafe/chain"
)

// maxDirectives bounds the files looked at in one configuration.
const maxDirectives = 64

// checkConfig says whether an existing configuration reads what was written, and
// what is wrong with the other files that it reads instead, or beside it.
func (x *fixer) checkConfig(t *serverTarget, out string, o chain.Options) error {
	b, err := readUpTo(x.config, 4<<20)
	if err != nil {
		return err
	}
	paths := x.named(t.directives, b)
	if len(paths) == 0 {
		return withHint(fmt.Errorf("checking %s: it names no certificate", x.config), "add the lines above")
	}
	o.Key, o.Name = nil, "" // other files may be another site's
	reads, broken := false, false
	var own []*chain.Cert
	for _, path := range paths {
		if path == out || path == filepath.Dir(out) { // HAProxy takes directories
			reads = true
			fmt.Fprintf(x.a.err, x.a.say("%s reads %s\n", "%s 使用 %s\n"), x.config, out)
		} else {
			fmt.Fprintf(x.a.err, x.a.say("%s reads %s, not %s\n", "%s 使用 %s，而不是 %s\n"), x.config, visible(path), out)
		}
		if path == filepath.Dir(out) {
			continue
		}
		data, err := readUpTo(path, chain.MaxFile)
		if err != nil {
			broken = true
			fmt.Fprintf(x.a.err, "  %v\n", err)
			continue
		}
		if certs := chain.Read(data, o.Password).Certs; len(certs) > 0 {
			own = append(own, certs[0]) // the key is the first one's
		}
		if path == out {
			continue
		}
		if r := chain.Check(path, data, o); r.Verdict != chain.OK {
			broken = true
			fmt.Fprintf(x.a.err, "  %s: %s\n", visible(path), strings.Join(r.Codes(), ", "))
		}
	}
	if t.name == "apache" && strings.Contains(strings.ToLower(string(b)), "sslcertificatechainfile") {
		broken = true
		fmt.Fprintln(x.a.err, x.a.say("SSLCertificateChainFile is obsolete since Apache 2.4.8: drop the line", "SSLCertificateChainFile 自 Apache 2.4.8 起已废弃：请删除该行"))
	}
	for _, path := range x.named(t.keys, b) {
		if !x.belongs(path, own, o) {
			broken = true
			fmt.Fprintf(x.a.err, x.a.say("%s: KEY_MISMATCH: no certificate that %s reads belongs to this key, or it cannot be read\n", "%s：KEY_MISMATCH：%s 使用的证书都不属于此密钥，或密钥无法读取\n"), visible(path), x.config)
		}
	}
	if broken || !reads {
		return errFindings
	}
	return nil
}

// named lists the files that a configuration names, each once.
func (x *fixer) named(directive *regexp.Regexp, config []byte) []string {
	var out []string
	if directive == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, m := range directive.FindAllSubmatch(config, maxDirectives) {
		path := string(m[1])
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(x.config), path)
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
		}
		if !seen[path] {
			seen[path] = true
			out = append(out, path)
		}
	}
	return out
}

// belongs says that the key in a file is that of one of the certificates.
func (x *fixer) belongs(path string, certs []*chain.Cert, o chain.Options) bool {
	data, err := readUpTo(path, chain.MaxFile)
	if err != nil {
		return false
	}
	for _, c := range certs {
		if chain.PrivateKeyOf(c, data, o.Password) != nil {
			return true
		}
	}
	return false
}
