package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/seal"
)

// TestCheckNamesIt breaks a copy of a service in every way that check knows, one
// at a time, and wants the fault named, its place, and nothing else. What
// scripts can break is in check.txtar.
func TestCheckNamesIt(t *testing.T) {
	base := filepath.Join(t.TempDir(), "state")
	populated(t, base, 2)
	s, err := openService(t.Context(), base, serviceOptions{ownTPM: "none"})
	must(t, err)
	_, err = s.verifier.PolicyKeys(t.Context(), defaultTenant) // it is made when it is needed
	must(t, err)
	_, _, err = s.enroll.Revoke(t.Context(), defaultTenant, "vm1", "test", "test")
	must(t, err)
	must(t, s.close())
	if _, err := rotateRoot(t.Context(), base); err != nil { // so that every file is there
		t.Fatal(err)
	}
	noErrors(t, base)

	var tested []string
	sqlite := func(dir string, statements ...string) {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(dir, fileStore))
		must(t, err)
		defer db.Close()
		for _, q := range statements {
			r, err := db.Exec(q)
			if err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			if n, err := r.RowsAffected(); err == nil && n == 0 && !strings.HasPrefix(q, "PRAGMA") {
				t.Fatalf("%s: nothing was broken", q)
			}
		}
	}
	file := func(dir, name string, change func([]byte) []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, change(data), 0o600))
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[len(b)-at] ^= 1; return b }
	}
	for _, tt := range []struct {
		what  string
		code  string
		place string // in the finding's subject
		says  string // in its evidence
		harm  func(dir string)
	}{
		{"the backup's key was changed", "KEY_DAMAGED", fileBackupMAC, "do", func(dir string) { file(dir, fileBackupMAC, flip(1)) }},
		{"a version of a key was changed", "KEY_DAMAGED", "ca/operator", "version 1", func(dir string) {
			sqlite(dir, `UPDATE key_version SET wrapped = x'00' WHERE key_id = (SELECT id FROM key WHERE name = 'ca/operator')`)
		}},
		{"a key was exchanged for another", "KEY_DAMAGED", "policy", "version 1", func(dir string) {
			sqlite(dir, `UPDATE key_version SET wrapped = (SELECT wrapped FROM key_version v JOIN key k ON v.key_id = k.id WHERE k.name = 'ca/operator') WHERE key_id = (SELECT id FROM key WHERE name = 'policy')`)
		}},
		{"a share was moved to another VM", "KEY_DAMAGED", "vm1", "disk share root", func(dir string) {
			sqlite(dir, `UPDATE disk SET share = (SELECT share FROM disk WHERE vm = 'vm0' AND name = 'root') WHERE vm = 'vm1' AND name = 'root'`)
		}},
		{"an endorsement key was exchanged", "KEY_DAMAGED", "vm1", "state secret", func(dir string) {
			sqlite(dir, `UPDATE vm SET ek_public = x'3000' WHERE name = 'vm1'`)
		}},
		{"a primary version is missing", "STORE_DAMAGED", fileStore, "primary version is missing", func(dir string) {
			sqlite(dir, `UPDATE key SET primary_version = 9 WHERE name = 'policy'`)
		}},
		{"a row points to nothing", "STORE_DAMAGED", fileStore, "points to nothing in vm", func(dir string) {
			sqlite(dir, `INSERT INTO disk (tenant, vm, name, share, volume_key_digest, created) VALUES ('default', 'nobody', 'root', x'', x'', 0)`)
		}},
		{"a counter disagrees", "STORE_DAMAGED", fileStore, "revision", func(dir string) { sqlite(dir, `UPDATE revision SET rev = rev + 1`) }},
		{"an authority has another's certificate", "AUTHORITY_BROKEN", "authorities", "belongs to another certificate", func(dir string) {
			sqlite(dir, `UPDATE authority SET der = (SELECT der FROM authority WHERE purpose = 'operator') WHERE purpose = 'residence'`)
		}},
		{"a boot that nobody approved", "APPROVAL_CHANGED", "vm0", "not by the tenant's policy key", func(dir string) {
			sqlite(dir, `INSERT INTO reference (tenant, subject, version, statement, signature, approval, created) VALUES ('default', 'vm0', 1, x'7b7d', x'00', x'7b7d', 0)`)
		}},
		{"a VM that the log never saw", "STORE_AHEAD_OF_AUDIT", "ghost", "no record of its birth", func(dir string) {
			sqlite(dir, `INSERT INTO vm (tenant, name, id, host, state, ek_public, ek_serial, state_secret, generation, pending, resets, created, revoked, reason) SELECT tenant, 'ghost', '00000000000000000000000000000001', host, state, x'31', ek_serial, state_secret, generation, pending, resets, created, revoked, reason FROM vm WHERE name = 'vm0'`)
		}},
		{"a revocation that was cut off", "REVOCATION_UNFINISHED", "vm0", "tenant default", func(dir string) {
			sqlite(dir, `UPDATE vm SET state = 'revoked', ek_serial = (SELECT MIN(serial) FROM certificate WHERE state = 'issued') WHERE name = 'vm0'`,
				`UPDATE certificate SET tenant = 'default' WHERE serial = (SELECT ek_serial FROM vm WHERE name = 'vm0')`)
		}},
		{"an authority that ends soon", "AUTHORITY_EXPIRES", "vouchsafe operator", "on 20", func(dir string) {
			long := time.Now().Add(-5*365*24*time.Hour + 30*24*time.Hour) // five years are its time
			sqlite(dir, fmt.Sprintf(`UPDATE authority SET der = x'%x' WHERE purpose = 'operator'`, authorityOf(t, dir, base, "operator", long)))
		}},
		{"a VM that was revoked and is not", "REVOCATION_UNDONE", "vm1", "the log says", func(dir string) { sqlite(dir, `UPDATE vm SET state = 'admitted' WHERE name = 'vm1'`) }},
		{"the sealed root key is another service's", "ROOT_KEY_CLOSED", fileSealed, "no tier opens", func(dir string) {
			file(dir, fileSealed, func(b []byte) []byte { return []byte(strings.Replace(string(b), `"service": "`, `"service": "0`, 1)) })
		}},
		{"the sealed root key is no JSON", "ROOT_KEY_CLOSED", fileSealed, "reading the sealed root key", func(dir string) { file(dir, fileSealed, func([]byte) []byte { return []byte("{") }) }},
		{"the key file is damaged", "ROOT_KEY_CLOSED", fileSealed, "damaged", func(dir string) { file(dir, fileRootKey, func(b []byte) []byte { b[30] ^= 1; return b }) }},
		{"the audit log's key was changed", "KEY_DAMAGED", fileAuditKey, "do", func(dir string) { file(dir, fileAuditKey, flip(1)) }},
		{"the store is no store", "STORE_DAMAGED", fileStore, "not a database", func(dir string) {
			file(dir, fileStore, func([]byte) []byte { return []byte(strings.Repeat("x", 8192)) })
		}},
		{"the store is gone", "STATE_INCOMPLETE", fileStore, "not there", func(dir string) {
			for _, name := range []string{"", "-wal", "-shm"} {
				os.Remove(filepath.Join(dir, fileStore+name))
			}
			if _, err := openService(t.Context(), dir, serviceOptions{}); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a service without its store: %v", err)
			}
		}},
		{"the store has no authority", "AUTHORITY_BROKEN", "residence", "not in the store", func(dir string) {
			sqlite(dir, `DELETE FROM authority`)
		}},
		{"the audit log is gone", "STATE_INCOMPLETE", dirAudit, "", func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, dirAudit))) }},
		{"the clock was ahead", "CLOCK_BEHIND", "clock", "newest record", func(dir string) {
			service, err := readService(dir)
			must(t, err)
			roots, err := openRootKeys(t.Context(), dir)
			must(t, err)
			signer, err := openAuditSigner(dir, service, roots)
			must(t, err)
			log, err := audit.Open(filepath.Join(dir, dirAudit), signer, audit.Options{Now: func() time.Time { return time.Now().Add(24 * time.Hour) }})
			must(t, err)
			_, err = log.Append(t.Context(), audit.Event{Actor: "test", Action: "test", Object: "x", Phase: audit.Fact})
			must(t, err)
			must(t, log.Close())
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(dir, os.DirFS(base)))
			private(t, dir)
			noErrors(t, dir)
			tt.harm(dir)
			fs, err := examine(t.Context(), dir, nil)
			must(t, err)
			named := false
			var all []string
			for _, f := range fs {
				all = append(all, f.Code+" "+f.Subject+": "+f.Evidence)
				if f.Code == tt.code && strings.Contains(f.Subject, tt.place) && strings.Contains(f.Evidence, tt.says) {
					named = true
				}
				if f.Meaning == "" || f.Remedy == "" || strings.Contains(f.Remedy, "{0}") {
					t.Errorf("%s explains nothing: %q, %q", f.Code, f.Meaning, f.Remedy)
				}
			}
			if !named {
				t.Errorf("want %s at %s saying %q, got\n%s", tt.code, tt.place, tt.says, strings.Join(all, "\n"))
			}
			tested = append(tested, tt.code)
		})
	}
	// Those that check.txtar, TestRotateRootCutOff and TestCheckVTPMs break.
	tested = append(tested, "STATE_OPEN", "RECOVERY_KEY_HERE", "ROTATION_UNFINISHED", "STATE_OWNER", "VTPMS_ELSEWHERE")
	for _, e := range checkFindings {
		if !slices.Contains(tested, e.Code) {
			t.Errorf("nothing breaks what %s names", e.Code)
		}
	}
}

// private gives the files of a copy the modes that they had.
func private(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

// authorityOf is the certificate that the operators' authority would have, had it
// been made at another time.
func authorityOf(t *testing.T, dir, recoveryDir string, p ca.Purpose, at time.Time) []byte {
	t.Helper()
	service, err := readService(dir)
	must(t, err)
	root, err := parseCertificate([]byte(service.RootCA))
	must(t, err)
	recovery, err := seal.ReadKeyFile(recoveryOf[recoveryDir])
	must(t, err)
	text, err := os.ReadFile(filepath.Join(dir, fileRootCA))
	must(t, err)
	signer, err := ca.OpenOffline(recovery, text)
	must(t, err)
	s, err := openService(t.Context(), dir, serviceOptions{ownTPM: "none"})
	must(t, err)
	defer s.close()
	a, err := s.office.Authority(p)
	must(t, err)
	der, err := ca.NewIntermediate(root, signer, p, a.Certificate.PublicKey, at)
	must(t, err)
	return der
}
