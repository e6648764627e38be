package attest

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Tier is how much stands behind a vTPM, weakest first.
type Tier string

const (
	// Unattested: the host's word alone.
	Unattested Tier = "unattested"
	// TPMAttested: the host's own TPM quoted measured software that we approved.
	TPMAttested Tier = "tpm-attested"
	// Confidential: the guest's memory is closed to the host. Reserved.
	Confidential Tier = "confidential"
)

// Status is the trustworthiness tier of the whole (draft-ietf-rats-ear-04, section 3.2).
type Status string

const (
	Affirming       Status = "affirming"
	Warning         Status = "warning"
	Contraindicated Status = "contraindicated"
)

// Vector is a trustworthiness vector; the values are those of AR4SI
// (draft-ietf-rats-ar4si, section 2.3). Zero makes no claim.
type Vector struct {
	InstanceIdentity int8 `json:"instance-identity"`
	Configuration    int8 `json:"configuration"`
	Executables      int8 `json:"executables"`
	Hardware         int8 `json:"hardware"`
}

// The claim values we use.
const (
	noClaim               = 0
	trustworthyInstance   = 2
	untrustworthyInstance = 96
	approvedConfig        = 2
	approvedBoot          = 3
	unrecognizedRuntime   = 33
	genuineHardware       = 2
	cryptoFailed          = 99
)

// Result is what the verifier found. EAR gives its standard form.
type Result struct {
	Subject    string            `json:"subject"`
	Time       time.Time         `json:"time"`
	Tier       Tier              `json:"tier"`
	Status     Status            `json:"status"`
	Vector     Vector            `json:"vector"`
	AKName     Hex               `json:"akName"`
	Qualifying Hex               `json:"qualifying"`
	Quoted     *Quoted           `json:"quoted,omitempty"`     // signed by the TPM
	Boot       *Boot             `json:"boot,omitempty"`       // from the log: hints for people
	Reference  *Reference        `json:"reference,omitempty"`  // the set that fits, or the nearest
	Difference *Difference       `json:"difference,omitempty"` // the first event that is not as approved
	Certified  []Certified       `json:"-"`                    // keys of the same TPM, for enroll
	Findings   []finding.Finding `json:"findings"`
}

// Quoted is what the quote itself says.
type Quoted struct {
	Bank            string `json:"bank"`
	PCRs            []int  `json:"pcrs"`
	ResetCount      uint32 `json:"resetCount"`
	RestartCount    uint32 `json:"restartCount"`
	Clock           uint64 `json:"clock"` // milliseconds
	Safe            bool   `json:"safe"`  // the clock did not go back
	FirmwareVersion uint64 `json:"firmwareVersion"`
	PCRDigest       Hex    `json:"pcrDigest"` // as the quote signs it
	Digest          Hex    `json:"digest"`    // SHA-256 of the TPMS_ATTEST
}

// Boot is what the log claims to contain. It decides nothing.
type Boot struct {
	Events     int `json:"events"`
	IMAEntries int `json:"imaEntries,omitempty"`
	// Modules are what the kernel measured, as the quote proves; ModuleCount may be more.
	Modules             []LoadedModule `json:"modules,omitempty"`
	ModuleCount         int            `json:"moduleCount,omitempty"`
	SecureBoot          string         `json:"secureBoot,omitempty"`
	KernelMeasured      bool           `json:"kernelMeasured"`
	CommandLineMeasured bool           `json:"commandLineMeasured"`
	InitrdMeasured      bool           `json:"initrdMeasured"`
}

// Reference names the set of reference values.
type Reference struct {
	Policy  string `json:"policy"`
	Version uint64 `json:"version"`
	Note    string `json:"note,omitempty"`
	Matched bool   `json:"matched"`
}

func newResult(exp Expected) *Result {
	r := &Result{
		Subject: exp.Subject, Time: exp.Now.UTC(), Tier: exp.Tier, AKName: exp.Key.Name(), Qualifying: exp.Qualifying,
		Findings: []finding.Finding{},
	}
	if exp.Tier == TPMAttested || exp.Tier == Confidential {
		r.Vector.Hardware = genuineHardware
	} else {
		r.Tier = Unattested
	}
	return r
}

// conclude sets the status: the graver of what the findings and the vector say.
// Only a boot that fits approved reference values is anything but contraindicated.
func (r *Result) conclude() {
	r.Status = Affirming
	if r.worst() == finding.Warning {
		r.Status = Warning
	}
	if r.worst() == finding.Error || r.Reference == nil || !r.Reference.Matched || r.Vector.InstanceIdentity != trustworthyInstance {
		r.Status = Contraindicated
	}
}

// EAR is the Result as claims of an EAT Attestation Result: JSON, unsigned.
// Who hands it to others wraps it in a signed token. issuer is who says so,
// subject of whom it is said.
func (r *Result) EAR(build, issuer, subject string) ([]byte, error) {
	type appraisal struct {
		Status Status   `json:"ear_status"`
		Vector Vector   `json:"ear_trustworthiness_vector"`
		Policy []string `json:"ear_appraisal_policy_ids,omitempty"`
		Detail *Result  `json:"vouchsafe_result"`
	}
	sub := appraisal{Status: r.Status, Vector: r.Vector, Detail: r}
	if r.Reference != nil {
		sub.Policy = []string{"vouchsafe:" + r.Reference.Policy}
	}
	return json.Marshal(struct {
		Profile  string               `json:"eat_profile"`
		Issuer   string               `json:"iss"`
		Subject  string               `json:"sub"`
		IssuedAt int64                `json:"iat"`
		Verifier map[string]string    `json:"ear_verifier_id"`
		Nonce    string               `json:"eat_nonce"`
		Submods  map[string]appraisal `json:"submods"`
	}{
		"tag:ietf.org,2026:rats/ear#04", issuer, subject, r.Time.Unix(), map[string]string{"developer": "vouchsafe", "build": build},
		base64.RawURLEncoding.EncodeToString(r.Qualifying), map[string]appraisal{"vtpm": sub},
	})
}
