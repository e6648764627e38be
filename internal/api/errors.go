package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/internal/store"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// Problem is an error as it goes over the wire: RFC 9457, with a code that
// scripts can match and a way out.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code,omitempty"`
	Hint   string `json:"hint,omitempty"`
	// Errors are the values that the description of the API does not allow.
	Errors []*huma.ErrorDetail `json:"errors,omitempty"`
}

func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// table turns our errors into HTTP, in one place. The first match counts.
var table = []struct {
	is     error
	status int
	code   string
	hint   string
}{
	{enroll.ErrNotFound, http.StatusNotFound, "NOT_FOUND", "check the name; lists show what there is"},
	{enroll.ErrExists, http.StatusConflict, "EXISTS", "choose another name"},
	{enroll.ErrOtherRequest, http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED", "use a new key for a new request"},
	{store.ErrFull, http.StatusInsufficientStorage, "DISK_FULL", "free some space on the server"},
	{audit.ErrFull, http.StatusInsufficientStorage, "DISK_FULL", "free some space on the server"},
	{audit.ErrBroken, http.StatusServiceUnavailable, "AUDIT_BROKEN", "restart the server and run vouchsafe audit verify"},
	{store.ErrBusy, http.StatusServiceUnavailable, "BUSY", "try again in a second"},
	{audit.ErrBusy, http.StatusServiceUnavailable, "BUSY", "try again in a second"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "BUSY", "try again in a second"},
}

// mistakes are the refusals that say that a request cannot be.
var mistakes = []string{enroll.NameInvalid, enroll.KeyUnfit, enroll.RequestInvalid}

// notAllowed gives a code to what huma refuses by the description of the API.
func notAllowed(_ huma.Context, _ string, answer any) (any, error) {
	m, ok := answer.(*huma.ErrorModel)
	if !ok {
		return answer, nil
	}
	return &Problem{Status: m.Status, Title: m.Title, Detail: m.Detail, Code: enroll.RequestInvalid, Hint: remedy(enroll.RequestInvalid), Errors: m.Errors}, nil
}

// writeProblem answers where huma does not.
func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // whoever went away hears nothing
}

// remedy is what a person can do about a refusal.
func remedy(code string) string {
	for _, catalog := range []finding.Catalog{enroll.Refusals, verifier.Refusals, modkeys.Refusals, attest.Findings} {
		for _, e := range catalog {
			if e.Code == code && !strings.Contains(e.Remedy.EN, "{0}") {
				return e.Remedy.EN
			}
		}
	}
	return ""
}

func asProblem(err error) error {
	var p *Problem
	var h huma.StatusError
	if errors.As(err, &p) || errors.As(err, &h) {
		return err
	}
	var r enroll.Refusal
	if errors.As(err, &r) {
		if r.Code == "BUDGET_SPENT" {
			return &Problem{Status: http.StatusTooManyRequests, Title: "Too Many Requests", Detail: err.Error(), Code: r.Code, Hint: remedy(r.Code)}
		}
		if slices.Contains(mistakes, r.Code) {
			return &Problem{Status: http.StatusUnprocessableEntity, Title: "Unprocessable", Detail: err.Error(), Code: r.Code, Hint: remedy(r.Code)}
		}
		return &Problem{Status: http.StatusForbidden, Title: "Refused", Detail: err.Error(), Code: r.Code, Hint: remedy(r.Code)}
	}
	for _, row := range table {
		if errors.Is(err, row.is) {
			return &Problem{Status: row.status, Title: http.StatusText(row.status), Detail: err.Error(), Code: row.code, Hint: row.hint}
		}
	}
	// Not the caller's fault, or we do not know what else to call it.
	return &Problem{Status: http.StatusInternalServerError, Title: "Internal Server Error", Detail: err.Error(), Code: "INTERNAL",
		Hint: "on the server: vouchsafe check; if that finds nothing, report what you did and this message"}
}
