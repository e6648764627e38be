package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestForgedApproval: whoever can write to the store cannot have an approved boot
// stand for another version of itself, nor say how the server's share is sealed.
func TestForgedApproval(t *testing.T) {
	d := admittedDemo(t)
	must(t, d.boot(demoCommandLine))
	db, err := sql.Open("sqlite", filepath.Join(d.dir, "service", fileStore))
	must(t, err)
	defer db.Close()
	for _, tt := range []struct{ what, do, undo string }{
		{"its version", `UPDATE reference SET version = 7 WHERE version = 1`, `UPDATE reference SET version = 1 WHERE version = 7`},
		{"how the share is sealed", `UPDATE reference SET approval = CAST(replace(CAST(approval AS TEXT), '"approvedPolicy":"', '"approvedPolicy":"00') AS BLOB)`,
			`UPDATE reference SET approval = CAST(replace(CAST(approval AS TEXT), '"approvedPolicy":"00', '"approvedPolicy":"') AS BLOB)`},
	} {
		change := func(q string) {
			t.Helper()
			r, err := db.Exec(q)
			must(t, err)
			if n, err := r.RowsAffected(); err != nil || n != 1 {
				t.Fatalf("%s: %d rows, %v", q, n, err)
			}
		}
		change(tt.do)
		if _, err := d.attest("root"); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("%s changed in the store: %v", tt.what, err)
		}
		change(tt.undo)
		if _, err := d.attest("root"); err != nil {
			t.Errorf("%s put right again: %v", tt.what, err)
		}
	}

	// Nor be signed anew for another VM's TPM when the policy key is rotated.
	_, err = db.Exec(`INSERT INTO reference (tenant, subject, version, statement, signature, approval, key_version, created)
		SELECT tenant, 'web2', version, statement, signature, approval, key_version, created FROM reference WHERE version = 1`)
	must(t, err)
	rotate := func() error {
		return d.operator.call(t.Context(), "POST", "/v1/key/rotate?name=policy", nil, nil)
	}
	if err := rotate(); err == nil || !strings.Contains(err.Error(), "approved for another") {
		t.Errorf("another VM's approved boot: %v", err)
	}
	_, err = db.Exec(`DELETE FROM reference WHERE subject = 'web2'`)
	must(t, err)
	must(t, rotate())
}
