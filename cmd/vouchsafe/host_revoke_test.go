package main

import (
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// TestHostRevoked rehearses docs/runbooks/host.md with a real TPM and a VM that runs:
// trust in its host ends, and with it what the VM had by it; then it begins anew.
func TestHostRevoked(t *testing.T) {
	w := newHostWorld(t)
	hostDir := filepath.Join(w.dir, dirHost)
	enroll := []string{"host", "enroll", "h1", "--tpm", w.tpm2, "--event-log", w.log, "-o", hostDir}
	cli := func(args ...string) string {
		t.Helper()
		out, err := w.cli(args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	serial := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		must(t, err)
		c, err := parseCertificate(text)
		must(t, err)
		return ca.SerialText(c)
	}
	cli(append(enroll, "--approve")...)
	first := serial(filepath.Join(hostDir, credentialCert))
	w.run()
	cli("vm", "create", "web1", "--host", "h1")
	carried := func() {
		t.Helper()
		w.until("web1 is carried", func() bool { _, err := os.Stat(filepath.Join(w.dir, dirSockets, "web1.sock")); return err == nil })
	}
	carried()
	m, err := w.start("web1")
	must(t, err)
	key, got, err := askCredential(t.Context(), w.op, ca.KindGuest, "web1")
	must(t, err)
	guest, err := keyPair(key, got.PEM)
	must(t, err)
	a := w.agent(m, guest)
	if _, err := a.Attest(t.Context(), ""); refused(err, "REFERENCE_MISSING") != nil {
		t.Fatal(err)
	}
	cli("policy", "enroll", "web1")
	adm, err := a.Attest(t.Context(), "")
	must(t, err)
	identity := ca.SerialText(adm.Chain[0])
	adm.Close()

	// One act ends it.
	var h api.RevokedHost
	out := cli("host", "revoke", "h1", "--reason", "root by a stranger", "--json")
	must(t, json.Unmarshal([]byte(out), &h))
	if len(h.VMs) != 1 || h.VMs[0] != "web1" || h.Certificates != 2 || h.Reason != "root by a stranger" || h.HasTPM == false || h.Tier != "unattested" {
		t.Errorf("revoked: %+v", h)
	}
	for purpose, want := range map[string]string{"operator": first, "vm-identity": identity} {
		block, _ := pem.Decode([]byte(cli("ca", "crl", purpose)))
		list, err := x509.ParseRevocationList(block.Bytes)
		if must(t, err); len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Text(16) != want {
			t.Errorf("the CRL of %s names %v, want %s", purpose, list.RevokedCertificateEntries, want)
		}
	}
	_, err = a.Attest(t.Context(), "")
	if refused(err, "HOST_REVOKED") != nil {
		t.Errorf("its VM is admitted: %v", err)
	}
	// The host hears of it when it next asks, and stops what it carries.
	m.reset() // which may fail: the vTPM stops under it
	w.until("the host stops the vTPM", func() bool {
		return strings.Contains(w.logs.String(), "stopping the vTPM") && strings.Contains(w.logs.String(), "was revoked on")
	})
	m.off()
	if _, err := w.cli(enroll...); refused(err, "HOST_REVOKED") != nil {
		t.Errorf("enrolled again: %v", err)
	}
	noErrors(t, w.svc)

	// Whoever writes it out of the store is found, whichever way.
	for what, q := range map[string]string{
		"not revoked":    `UPDATE host SET revoked = 0`,
		"as if new":      `DELETE FROM host`,
		"its credential": `UPDATE certificate SET state = 'issued', revoked = 0 WHERE profile = 'agent'`,
		"its VM":         `UPDATE certificate SET state = 'issued', revoked = 0 WHERE profile = 'vm-identity'`,
	} {
		copied := filepath.Join(t.TempDir(), "copy")
		must(t, os.CopyFS(copied, os.DirFS(w.svc)))
		private(t, copied)
		db, err := sql.Open("sqlite", filepath.Join(copied, fileStore))
		must(t, err)
		_, err = db.Exec(q)
		must(t, err)
		must(t, db.Close())
		fs, err := examine(t.Context(), copied, nil)
		must(t, err)
		code := "REVOCATION_UNDONE"
		if strings.HasPrefix(what, "its") {
			code = "REVOCATION_UNFINISHED"
		}
		found := false
		for _, f := range fs {
			found = found || f.Code == code && f.Subject == "host h1" && strings.Contains(f.Remedy, "vouchsafe host revoke h1 ")
		}
		if !found {
			t.Errorf("%s: %+v", what, fs)
		}
	}

	// Anew: the old credential stays worthless, and the machine proves itself again.
	w.stop()
	cli("host", "reinstate", "h1", "--reason", "installed anew")
	var after api.Host
	must(t, w.op.call(t.Context(), "GET", "/v1/hosts/h1", nil, &after))
	if after.HasTPM || after.AcceptUnattested || after.ID == h.ID || after.Revoked != "" {
		t.Errorf("reinstated: %+v", after)
	}
	cred, err := openHostCredential(hostDir, w.op.url)
	must(t, err)
	s, err := cred.service(t.Context())
	must(t, err)
	if err := s.Call(t.Context(), "GET", "/v1/hosts/h1/work", nil, nil); refused(err, "was revoked") != nil {
		t.Errorf("the old credential: %v", err)
	}
	cli(append(enroll, "--approve")...)
	if serial(filepath.Join(hostDir, credentialCert)) == first {
		t.Error("the old credential is used again")
	}
	w.run()
	carried()
	w.until("its lease is there again", func() bool {
		if m, err = w.start("web1"); err != nil {
			time.Sleep(time.Second)
		}
		return err == nil
	})
	adm, err = w.agent(m, guest).Attest(t.Context(), "")
	if err != nil || adm.Tier != "tpm-attested" {
		t.Fatalf("%v, %v\n%s", adm, err, w.logs)
	}
	adm.Close()
	m.off()
	noErrors(t, w.svc)
}
