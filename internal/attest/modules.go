package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// ModuleList is an allow-list of kernel modules before it is signed: what a VM's
// kernel may have loaded. Like reference values it is one of several that may be
// in force: a module must be on one of them. As soon as a VM has any, it must
// send its IMA list. docs/formats/module-list.md has the bytes, and what IMA
// does not see.
type ModuleList struct {
	Format    string    `json:"format"` // ModuleListFormat
	Tenant    string    `json:"tenant"`
	Policy    string    `json:"policy"`  // the name that VMs refer to
	Version   uint64    `json:"version"` // of this list within the policy, from 1, never used twice
	NotBefore time.Time `json:"notBefore"`
	Note      string    `json:"note,omitempty"`
	// Modules may load. An empty list, without signers, allows none.
	Modules []AllowedModule `json:"modules"`
	// Signers are certificates in DER: what they signed may load, where the
	// kernel measures with the template ima-modsig.
	Signers [][]byte `json:"signers,omitempty"`
	// OtherFiles says that the guest's IMA policy measures more files than modules
	// (ima_policy=tcb): then only names that end as a module's are looked at, and
	// a module that was loaded from a file of another name is not seen.
	OtherFiles bool `json:"otherFiles,omitempty"`
}

// ModuleListFormat is the only format there is.
const ModuleListFormat = "vouchsafe module list 1"

// AllowedModule is one file, signature and compression included, as IMA hashes it.
type AllowedModule struct {
	Name   string `json:"name"` // of the file, without its directory: for people, and to tell "changed" from "unknown"
	SHA256 Hex    `json:"sha256"`
}

func (l *ModuleList) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("reading a module list: "+format, args...)
	}
	switch {
	case l.Format != ModuleListFormat:
		return fail("format %.64q; want %q", l.Format, ModuleListFormat)
	case l.Tenant == "" || l.Policy == "":
		return fail("tenant and policy must be named")
	case l.Version == 0:
		return fail("versions begin with 1")
	case len(l.Modules) > MaxAllowedModules || len(l.Signers) > MaxModuleSigners:
		return fail("%d modules, %d signers; the limits are %d and %d", len(l.Modules), len(l.Signers), MaxAllowedModules, MaxModuleSigners)
	}
	for _, m := range l.Modules {
		if m.Name == "" || len(m.Name) > 255 || path.Base(m.Name) != m.Name || len(m.SHA256) != 32 {
			return fail("%.64q with a digest of %d bytes: want a file's name and its SHA-256", m.Name, len(m.SHA256))
		}
	}
	for _, der := range l.Signers {
		if _, err := x509.ParseCertificate(der); err != nil {
			return fail("a signer: %v", err)
		}
	}
	return nil
}

// SignedModuleList is a module list as it is stored.
type SignedModuleList struct {
	List      []byte `json:"list"`      // JSON of a ModuleList, kept byte for byte
	Signature []byte `json:"signature"` // ECDSA, ASN.1, over SHA-384 of a label and the list
}

const moduleListLabel = "vouchsafe module list\x00"

func moduleListDigest(raw []byte) []byte {
	h := crypto.SHA384.New()
	h.Write([]byte(moduleListLabel))
	h.Write(raw)
	return h.Sum(nil)
}

// Sign signs the list with the tenant's policy key.
func (l *ModuleList) Sign(key crypto.Signer) (*SignedModuleList, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("signing a module list: %w", err)
	}
	if len(raw) > MaxStatement {
		return nil, fmt.Errorf("signing a module list: %d bytes; the limit is %d", len(raw), MaxStatement)
	}
	sig, err := key.Sign(rand.Reader, moduleListDigest(raw), crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("signing a module list: %w", err)
	}
	return &SignedModuleList{raw, sig}, nil
}

// AllowedModules is a list whose signature was verified; [VerifyModules] is the only door.
type AllowedModules struct {
	list    ModuleList
	names   map[string][][]byte
	digests map[string]bool
	signers []*x509.Certificate
}

// List returns what was signed.
func (m *AllowedModules) List() ModuleList { return m.list }

// VerifyModules checks a signed list under the tenant's policy key.
func VerifyModules(signed *SignedModuleList, key *ecdsa.PublicKey) (*AllowedModules, error) {
	if len(signed.List) > MaxStatement {
		return nil, fmt.Errorf("verifying a module list: %d bytes; the limit is %d", len(signed.List), MaxStatement)
	}
	if !ecdsa.VerifyASN1(key, moduleListDigest(signed.List), signed.Signature) {
		return nil, errors.New("verifying a module list: the signature is not by the tenant's policy key")
	}
	return readModuleList(signed.List)
}

func readModuleList(raw []byte) (*AllowedModules, error) {
	m := &AllowedModules{names: map[string][][]byte{}, digests: map[string]bool{}}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields() // what we do not understand may allow less than we think
	if err := d.Decode(&m.list); err != nil {
		return nil, fmt.Errorf("verifying a module list: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("verifying a module list: something follows it")
	}
	if err := m.list.check(); err != nil {
		return nil, err
	}
	for _, a := range m.list.Modules {
		m.names[a.Name] = append(m.names[a.Name], a.SHA256)
		m.digests[string(a.SHA256)] = true
	}
	for _, der := range m.list.Signers {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("verifying a module list: %v", err)
		}
		m.signers = append(m.signers, c)
	}
	return m, nil
}

// LoadedModule is a file that the guest's kernel measured, as a module as far
// as the list shows.
type LoadedModule struct {
	Name   string `json:"name"` // as the guest's kernel called it, printable
	Alg    string `json:"alg"`
	Digest Hex    `json:"digest"`
}

// ModuleSigner finds the one of certs that made a module's CMS signature over a
// digest; an error says who claims to have made it. The verifier brings it, so
// that the agent, which links this package, needs no CMS.
type ModuleSigner func(cms []byte, alg string, digest []byte, certs []*x509.Certificate) (*x509.Certificate, error)

// ModuleName tells whether a file is called as modules are.
func ModuleName(name string) bool {
	for _, ext := range []string{".ko", ".ko.xz", ".ko.gz", ".ko.zst"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}

// modules notes what was loaded, and wants each on a list when there is one. It
// looks only at entries that lead to the quoted PCR 10.
func (a *appraisal) modules(ev Evidence) {
	var lists []*AllowedModules
	other := false
	for _, l := range a.exp.Modules {
		if l.list.Tenant == a.exp.Tenant && l.list.Policy == a.exp.Policy && !a.exp.Now.Before(l.list.NotBefore) {
			lists = append(lists, l)
			other = other || l.list.OtherFiles
		}
	}
	list, sent := ev.item(IMALog)
	if !sent {
		if len(a.exp.Modules) > 0 {
			a.find("IMA_LOG_MISSING", "no item of type "+string(IMALog))
		}
		return
	}
	if _, ok := a.q.values[imaPCR]; !ok {
		if len(a.exp.Modules) > 0 {
			a.find("IMA_LOG_NOT_QUOTED", "the list was sent and PCR 10 is not in the quote")
		}
		return
	}
	var loaded []LoadedModule
	total, refused, names := 0, 0, 0
	refuse := func(code, evidence string) {
		if refused++; refused <= maxRefusedModules {
			a.find(code, evidence)
		}
	}
	i := -1
	for e, err := range eventlog.EachIMA(list) {
		if i++; i == a.ima || err != nil { // it was read before: no error
			break
		}
		switch {
		case e.Violation():
			// Nothing in such an entry is hashed, its name neither. IMA also reads other
			// files that are being written, then; what it measured of a module is in an
			// entry of its own.
			if len(a.exp.Modules) > 0 && !other {
				refuse("MODULE_VIOLATION", fmt.Sprintf("IMA entry %d: %s", i, e.PrintableName()))
			}
			continue
		case e.Buffer(), i == 0 && e.Name == "boot_aggregate":
			continue
		case other && !ModuleName(e.Name) && e.Template != "ima": // whose name has no certain end
			continue
		}
		total++
		name := e.PrintableName()
		if names += len(name); len(loaded) < MaxLoadedModules && names <= MaxLoadedNames {
			loaded = append(loaded, LoadedModule{name, e.FileAlg, e.FileHash})
		}
		if len(a.exp.Modules) > 0 {
			a.allowed(lists, e, name, refuse)
		}
	}
	a.res.Boot.Modules, a.res.Boot.ModuleCount = loaded, total
	if more := refused - maxRefusedModules; more > 0 {
		a.res.Findings[len(a.res.Findings)-1].Evidence += fmt.Sprintf("; and %d more", more)
	}
	allowsAny := slices.ContainsFunc(lists, func(l *AllowedModules) bool { return len(l.list.Modules)+len(l.list.Signers) > 0 })
	if total == 0 && allowsAny {
		a.find("MODULES_NOT_MEASURED", fmt.Sprintf("%d entries in the IMA list, none of them a module", a.ima))
		refused++
	}
	if refused > 0 {
		a.res.Vector.Executables = unrecognizedRuntime
	}
}

// allowed wants one measured file on one of the lists.
func (a *appraisal) allowed(lists []*AllowedModules, e *eventlog.IMAEntry, name string, refuse func(code, evidence string)) {
	var wanted [][]byte
	var signers []*x509.Certificate
	for _, l := range lists {
		if e.FileAlg == "sha256" && l.digests[string(e.FileHash)] {
			return
		}
		wanted = append(wanted, l.names[path.Base(e.Name)]...)
		signers = append(signers, l.signers...)
	}
	measured := fmt.Sprintf("%s %s:%s", name, e.FileAlg, hex.EncodeToString(e.FileHash))
	if len(e.ModSig) > 0 && len(signers) > 0 && a.exp.ModuleSigner != nil {
		_, err := a.exp.ModuleSigner(e.ModSig, e.ModAlg, e.ModHash, signers)
		if err == nil {
			return
		}
		refuse("MODULE_SIGNER_NOT_ALLOWED", measured+": "+err.Error())
		return
	}
	switch {
	case e.FileAlg != "sha256":
		refuse("MODULE_NOT_ALLOWED", measured+"; the list is of SHA-256: boot with ima_hash=sha256")
	case len(wanted) > 0:
		refuse("MODULE_CHANGED", fmt.Sprintf("%s, the list has %s", measured, hex.EncodeToString(wanted[0])))
	default:
		refuse("MODULE_NOT_ALLOWED", measured)
	}
}
