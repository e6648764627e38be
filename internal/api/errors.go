package api

import (
	"context"
	"errors"
	"net/http"
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
		return &Problem{Status: http.StatusForbidden, Title: "Refused", Detail: err.Error(), Code: r.Code, Hint: remedy(r.Code)}
	}
	for _, row := range table {
		if errors.Is(err, row.is) {
			return &Problem{Status: row.status, Title: http.StatusText(row.status), Detail: err.Error(), Code: row.code, Hint: row.hint}
		}
	}
	return &Problem{Status: http.StatusUnprocessableEntity, Title: "Unprocessable", Detail: err.Error()}
}
