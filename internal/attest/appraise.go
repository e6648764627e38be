package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Expected is what the verifier knows and the evidence must fit.
type Expected struct {
	Subject    string // the VM, for the Result
	Tenant     string // the references must be of this tenant …
	Policy     string // … and of this policy
	Key        *Key   // the AK recorded when this VM's vTPM proved that it holds it
	Qualifying []byte // extraData, never empty; see [Binding.Digest]
	Tier       Tier   // what the host has earned; anything unknown is Unattested
	Now        time.Time

	// Counters is what the manager of the vTPM saw; nil when nobody counts.
	Counters *Counters
	// Unlogged are PCRs that may hold what no log explains: UnlockPCR after the
	// disk was opened, for example.
	Unlogged []int

	// Modules are the lists of modules in force; without any, all may load.
	// ModuleSigner may be nil.
	Modules      []*AllowedModules
	ModuleSigner ModuleSigner
}

// Counters are TPM Resets and Restarts (Part 1, 10.2.4). They are in clear only
// when the AK is in the endorsement hierarchy; a storage key's are obfuscated.
type Counters struct {
	Reset, Restart uint32
}

// Appraise compares evidence with what is expected and with the approved
// reference values, any one set of which must fit. It always returns a Result:
// evidence that makes no sense is contraindicated, and says why.
func Appraise(ev Evidence, exp Expected, refs []*ReferenceValues) *Result {
	a := &appraisal{exp: exp, res: newResult(exp)}
	a.run(ev, refs)
	a.res.conclude()
	return a.res
}

type appraisal struct {
	exp Expected
	res *Result
	q   *quote
	log *eventlog.Log
	ima int // how many entries of the IMA list lead to the quoted PCR 10
}

func (a *appraisal) find(code, evidence string, args ...string) {
	a.res.Findings = append(a.res.Findings, Findings.New(code, a.exp.Subject, evidence, args...))
}

// run goes through the steps in order. A step that finds the ground missing
// for the later ones ends the appraisal; the others only report.
func (a *appraisal) run(ev Evidence, refs []*ReferenceValues) {
	if err := ev.check(); err != nil {
		a.find("EVIDENCE_MALFORMED", err.Error())
		return
	}
	if a.res.Tier == Unattested {
		a.find("HOST_UNATTESTED", "tier "+string(a.res.Tier))
	}
	// 1. The quote: by the recorded key, for this admission.
	if !a.quote(ev) {
		return
	}
	// 2. The values behind it, and the keys that the same TPM certified.
	a.counters()
	a.certified(ev)
	if !a.values(ev) {
		return
	}
	// 3. The log explains the values.
	explained := a.replay(ev)
	// 4. The values are approved ones.
	a.compare(refs, explained)
	// 5. What the kernel loaded is allowed.
	if explained {
		a.modules(ev)
	}
	// 6. Kinds of evidence that nothing appraises yet.
	for _, it := range ev {
		switch it.Type {
		case TPMQuote, TPMPCRValues, TPMCertify, TCGEventLog, IMALog:
		default:
			a.find("EVIDENCE_NOT_APPRAISED", fmt.Sprintf("%.64q, %d bytes", it.Type, len(it.Data)))
		}
	}
}

func (a *appraisal) quote(ev Evidence) bool {
	item, ok := ev.item(TPMQuote)
	if !ok {
		a.find("QUOTE_MISSING", fmt.Sprintf("%d items, none of type %s", len(ev), TPMQuote))
		return false
	}
	q, err := readQuote(a.exp.Key, item)
	switch {
	case err == errSignature:
		a.find("QUOTE_SIGNATURE_INVALID", err.Error())
		a.res.Vector.InstanceIdentity = cryptoFailed
		return false
	case err != nil:
		a.find("QUOTE_MALFORMED", err.Error())
		return false
	case len(a.exp.Qualifying) == 0, !bytes.Equal(q.attest.ExtraData, a.exp.Qualifying):
		a.find("QUOTE_NOT_FRESH", fmt.Sprintf("it signs %s, this admission asked for %s", short(q.attest.ExtraData), short(a.exp.Qualifying)))
		a.res.Vector.InstanceIdentity = cryptoFailed
		return false
	case q.bank == eventlog.SHA1 || !q.bank.Available():
		a.find("QUOTE_BANK_WEAK", q.bank.String())
		return false
	}
	a.q = q
	a.res.Vector.InstanceIdentity = trustworthyInstance
	digest := sha256.Sum256(tpm2.Marshal(q.attest)) // strict decoding: these are the bytes that were signed
	a.res.Quoted = &Quoted{
		PCRDigest: q.attest.Attested.Quote.PCRDigest, Digest: digest[:],
		Bank: q.bank.String(), PCRs: q.pcrs, FirmwareVersion: q.attest.FirmwareVersion,
		ResetCount: q.attest.ClockInfo.ResetCount, RestartCount: q.attest.ClockInfo.RestartCount,
		Clock: q.attest.ClockInfo.Clock, Safe: q.attest.ClockInfo.Safe == tpm2.Yes,
	}
	return true
}

// counters compares with what the manager saw. A quote from a state file that
// was copied or rolled back has counted something else.
func (a *appraisal) counters() {
	c := a.exp.Counters
	if c == nil {
		return
	}
	got := a.q.attest.ClockInfo
	evidence := fmt.Sprintf("the quote says reset %d, restart %d; the manager counted reset %d, restart %d", got.ResetCount, got.RestartCount, c.Reset, c.Restart)
	switch {
	case got.ResetCount < c.Reset, got.ResetCount == c.Reset && got.RestartCount < c.Restart:
		a.find("TPM_ROLLED_BACK", evidence)
		a.res.Vector.InstanceIdentity = untrustworthyInstance
	case got.ResetCount != c.Reset || got.RestartCount != c.Restart:
		a.find("TPM_RESET_UNSEEN", evidence)
		a.res.Vector.InstanceIdentity = untrustworthyInstance
	}
}

func (a *appraisal) certified(ev Evidence) {
	for i, it := range ev {
		if it.Type != TPMCertify {
			continue
		}
		c, err := readCertify(a.exp.Key, it.Data, a.exp.Qualifying)
		if err != nil {
			a.find("CERTIFIED_KEY_INVALID", fmt.Sprintf("item %d: %v", i, err))
			continue
		}
		a.res.Certified = append(a.res.Certified, *c)
	}
}

// values finds the PCR values that the quote signs: sent beside it, or, since
// the quote has only their hash, those to which the log leads.
func (a *appraisal) values(ev Evidence) bool {
	if item, ok := ev.item(TPMPCRValues); ok {
		if err := a.q.accept(a.exp.Key, item); err != nil {
			a.find("PCR_VALUES_UNSIGNED", err.Error())
			return false
		}
		return true
	}
	if b := a.bank(ev); b != nil {
		var concat []byte
		for _, pcr := range a.q.pcrs {
			concat = append(concat, b.PCR[pcr]...)
		}
		if a.q.accept(a.exp.Key, concat) == nil {
			return true
		}
		// Without the values nobody can say which PCR it is.
		a.find("EVENT_LOG_MISMATCH", "the quote's digest is not that of the replayed PCRs; the PCR values were not sent", fmt.Sprint(a.q.pcrs))
		a.res.Vector.Executables = cryptoFailed
		return false
	}
	return false
}

// bank replays the logs in the evidence; nil when there is no usable log, which is then reported.
func (a *appraisal) bank(ev Evidence) *eventlog.Bank {
	if a.log == nil {
		item, ok := ev.item(TCGEventLog)
		if !ok {
			a.find("EVENT_LOG_MISSING", "no item of type "+string(TCGEventLog))
			return nil
		}
		log, err := eventlog.Parse(item)
		if err != nil {
			a.find("EVENT_LOG_UNREADABLE", err.Error())
			return nil
		}
		a.log = log
	}
	b, err := a.log.Replay(a.q.bank)
	if err != nil {
		a.find("EVENT_LOG_UNREADABLE", err.Error())
		return nil
	}
	item, ok := ev.item(IMALog)
	if !ok {
		return b
	}
	if err := a.replayIMA(b, item); err != nil {
		a.find("IMA_LOG_UNREADABLE", err.Error())
		return nil
	}
	return b
}

// replayIMA extends the list's entries, as many as lead to the quoted PCR 10:
// the guest went on measuring between quote and reading. What follows is not
// looked at.
func (a *appraisal) replayIMA(b *eventlog.Bank, list []byte) error {
	quoted, known := a.q.values[imaPCR]
	a.ima = 0
	for e, err := range eventlog.EachIMA(list) {
		if err != nil {
			return err
		}
		if known && bytes.Equal(b.PCR[imaPCR], quoted) {
			break
		}
		if err := e.Extend(b, false); err != nil {
			return fmt.Errorf("entry %d: %v", a.ima, err)
		}
		a.ima++
	}
	if a.res.Boot == nil {
		a.res.Boot = &Boot{}
	}
	a.res.Boot.IMAEntries = a.ima
	return nil
}

// imaPCR is where Linux measures files (CONFIG_IMA_MEASURE_PCR_IDX).
const imaPCR = 10

// replay wants every quoted PCR explained by a log, and the log's data not to
// contradict its digests. It reports whether the log may be used to explain.
func (a *appraisal) replay(ev Evidence) bool {
	b := a.bank(ev)
	if b == nil {
		return false
	}
	good := true
	for _, pcr := range a.q.pcrs {
		if slices.Contains(a.exp.Unlogged, pcr) || bytes.Equal(b.PCR[pcr], a.q.values[pcr]) {
			continue
		}
		a.find("EVENT_LOG_MISMATCH", fmt.Sprintf("PCR %d: the log leads to %s, the quote signs %s", pcr, short(b.PCR[pcr]), short(a.q.values[pcr])), fmt.Sprint(pcr))
		a.res.Vector.Executables = cryptoFailed
		good = false
	}
	broken := 0
	for i := range a.log.Events {
		e := &a.log.Events[i]
		binding, _ := e.Binding(a.q.bank)
		if binding != eventlog.Broken {
			continue
		}
		if broken++; broken <= maxBroken {
			a.find("EVENT_DIGEST_MISMATCH", fmt.Sprintf("event %d, PCR %d, %v: %s", e.Number, e.PCR, e.Type, e.Text()), fmt.Sprint(e.Number))
		}
		a.res.Vector.Configuration = cryptoFailed
		good = false
	}
	if a.res.Boot == nil {
		a.res.Boot = &Boot{}
	}
	m := a.log.Measures()
	a.res.Boot.Events, a.res.Boot.SecureBoot = len(a.log.Events), m.SecureBoot
	a.res.Boot.KernelMeasured, a.res.Boot.CommandLineMeasured, a.res.Boot.InitrdMeasured = m.Kernel, m.CommandLine, m.Initrd
	return good
}

// compare wants one approved set whose values are all quoted and all equal.
func (a *appraisal) compare(refs []*ReferenceValues, explained bool) {
	var best *ReferenceValues
	var bestDiffers []int
	usable, later := 0, 0
	for i, r := range refs {
		s := &r.statement
		switch {
		case i == MaxReferences:
			a.find("REFERENCES_TOO_MANY", fmt.Sprintf("%d sets; the first %d were compared", len(refs), MaxReferences))
		case i > MaxReferences, s.Tenant != a.exp.Tenant, s.Policy != a.exp.Policy:
			continue
		}
		if a.exp.Now.Before(s.NotBefore) {
			later++
			continue
		}
		usable++
		differs := a.differing(r)
		if best == nil || len(differs) < len(bestDiffers) ||
			len(differs) == len(bestDiffers) && s.Version > best.statement.Version {
			best, bestDiffers = r, differs
		}
	}
	if best == nil {
		code, evidence := "REFERENCE_MISSING", fmt.Sprintf("policy %q of tenant %q has no approved set", a.exp.Policy, a.exp.Tenant)
		if later > 0 {
			code, evidence = "REFERENCE_NOT_YET_VALID", fmt.Sprintf("%d approved sets, none valid before %s", later, a.exp.Now.UTC().Format(time.RFC3339))
		}
		a.find(code, evidence)
		a.res.Vector.Executables = unrecognizedRuntime
		return
	}
	s := &best.statement
	a.res.Reference = &Reference{Policy: s.Policy, Version: s.Version, Note: s.Note, Matched: len(bestDiffers) == 0}
	if len(bestDiffers) == 0 {
		if a.res.Vector.Executables == noClaim {
			a.res.Vector.Executables = approvedBoot
		}
		if a.res.Vector.Configuration == noClaim {
			a.res.Vector.Configuration = approvedConfig
		}
		return
	}
	if missing := a.notQuoted(s); len(missing) > 0 {
		a.find("QUOTE_PCRS_MISSING", fmt.Sprintf("PCRs %v are in the reference values and not in the quote", missing), fmt.Sprint(missing))
		a.res.Vector.Executables = unrecognizedRuntime
		return
	}
	evidence := fmt.Sprintf("PCRs %v differ from version %d of policy %q", bestDiffers, s.Version, s.Policy)
	if usable > 1 {
		evidence += fmt.Sprintf(", the nearest of %d approved sets", usable)
	}
	if d := a.firstDifference(best, bestDiffers); explained && d != nil {
		a.res.Difference = d
		evidence += "; " + d.String()
	} else {
		evidence += "; the event log does not explain the quote, so no event is named"
	}
	a.find("BOOT_DIFFERS", evidence)
	a.res.Vector.Executables = unrecognizedRuntime
}

// differing lists the PCRs of r that the quote does not sign with r's value.
func (a *appraisal) differing(r *ReferenceValues) []int {
	var out []int
	for _, p := range r.statement.PCRs {
		if r.bank != a.q.bank || !bytes.Equal(a.q.values[p.PCR], p.Value) {
			out = append(out, p.PCR)
		}
	}
	return out
}

func (a *appraisal) notQuoted(s *Statement) []int {
	var out []int
	for _, p := range s.PCRs {
		if _, ok := a.q.values[p.PCR]; !ok || s.Bank != a.q.bank.String() {
			out = append(out, p.PCR)
		}
	}
	return out
}

func short(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) > 8 {
		return hex.EncodeToString(b[:8]) + "…"
	}
	return hex.EncodeToString(b)
}

// worst is the gravest severity of the findings.
func (r *Result) worst() finding.Severity { return finding.Worst(r.Findings) }
