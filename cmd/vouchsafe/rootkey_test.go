package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
)

// populated makes a service with some VMs, and returns their secrets in clear,
// as the ring of the moment opens them.
func populated(t *testing.T, dir string, vms int) {
	t.Helper()
	newState(t, dir)
	s, err := openService(t.Context(), dir, serviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.SaveHost(t.Context(), enroll.Host{Tenant: defaultTenant, Name: "h1", AcceptedUnattested: true, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for i := range vms {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.enroll.Born(t.Context(), enroll.Birth{Tenant: defaultTenant, Name: fmt.Sprint("vm", i), Host: "h1", EKPublic: der, Disks: []string{"root", "data"}, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// leaseKeys are the keys that the first generation of each vTPM has: they hang
// from the state secrets, so they tell whether those are the same as before.
func leaseKeys(t *testing.T, dir string, vms int) [][]byte {
	t.Helper()
	s, err := openService(t.Context(), dir, serviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var out [][]byte
	for i := range vms {
		g, err := s.enroll.Lend(t.Context(), enroll.Ask{Tenant: defaultTenant, VM: fmt.Sprint("vm", i), Host: "h1", Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(g.SealKey.Reveal()))
	}
	return out
}

func same(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("%s: the state key of vm%d is another one", what, i)
		}
	}
}

// TestRotateRoot: the root key and its key file are others afterwards, every
// secret is the same, and neither what lies in the directory nor in SQLite's
// free pages opens with the old key.
func TestRotateRoot(t *testing.T) {
	const vms = 5
	dir := filepath.Join(t.TempDir(), "state")
	populated(t, dir, vms)
	want := leaseKeys(t, dir, vms)
	before, err := openRootKeys(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	oldFile, err := os.ReadFile(filepath.Join(dir, fileRootKey))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := storedWraps(t, dir)
	service, err := readService(dir)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "before.backup")
	if _, err := backupService(t.Context(), dir, backup); err != nil {
		t.Fatal(err)
	}

	// Not under a running server.
	s, err := openService(t.Context(), dir, serviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rotateRoot(t.Context(), dir); refused(err, "another process uses the root key") != nil {
		t.Errorf("under a running service: %v", err)
	}
	s.close()

	for i := range 2 { // and again
		n, err := rotateRoot(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if n < vms+5 {
			t.Errorf("rotation %d: only %d keys and VMs", i, n)
		}
		same(t, "after the rotation", leaseKeys(t, dir, vms), want)
		noErrors(t, dir)
	}
	after, err := openRootKeys(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if after.current.Equal(before.current) || len(after.before) != 0 || unfinishedRoot(dir) {
		t.Error("the root key is the same, or there are two")
	}
	// The old key file opens nothing, and nothing that the old root key wrapped is left.
	old, err := seal.ParseKey(oldFile)
	if err != nil {
		t.Fatal(err)
	}
	tier, err := seal.NewSoftware(old)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := readSealed(filepath.Join(dir, fileSealed))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := sealed.Open(t.Context(), tier); err == nil || len(sealed.Wraps) != 1 {
		t.Errorf("the old key file opens the root key (%v), %d wraps", err, len(sealed.Wraps))
	}
	for _, name := range []string{fileStore, fileStore + "-wal"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && name == fileStore {
			t.Fatal(err)
		}
		for _, w := range wrapped {
			if bytes.Contains(data, w[:32]) {
				t.Errorf("%s still holds what the old root key opens", name)
			}
		}
	}
	// The log goes on under the key that the world knows, and says so.
	r, err := audit.Verify(filepath.Join(dir, dirAudit), service.AuditKey, nil, nil)
	if err != nil || finding.Worst(r.Findings) == finding.Error {
		t.Errorf("the log: %v %v", r.Findings, err)
	}
	// A backup from before and one from now both come back.
	now := filepath.Join(t.TempDir(), "after.backup")
	if _, err := backupService(t.Context(), dir, now); err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{backup, now} {
		to := filepath.Join(t.TempDir(), "restored")
		recovery := recoveryOf[dir]
		if _, _, err := restoreService(t.Context(), b, recovery, to, nil); err != nil {
			t.Fatalf("restoring %s: %v", filepath.Base(b), err)
		}
		same(t, "restored from "+filepath.Base(b), leaseKeys(t, to, vms), want)
	}
}

// storedWraps are the wrapped secrets of the store, as they lie there.
func storedWraps(t *testing.T, dir string) (out [][]byte) {
	t.Helper()
	s, err := openService(t.Context(), dir, serviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	keys, err := s.store.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		out = append(out, k.Versions[0].Wrapped)
	}
	err = s.store.AllVMs(t.Context(), func(v enroll.VM) error { out = append(out, v.StateSecret); return nil })
	if err != nil || len(out) < 6 {
		t.Fatalf("%d secrets, %v", len(out), err)
	}
	return out
}

// TestRotateRootCutOff stops the rotation after every step, by copying what a
// crash would leave, and has the next start finish it.
func TestRotateRootCutOff(t *testing.T) {
	const vms = 2
	base := filepath.Join(t.TempDir(), "state")
	populated(t, base, vms)
	want := leaseKeys(t, base, vms)
	copyTo := func() string {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return errors.Join(err, os.Chmod(path, 0o700))
			}
			return os.Chmod(path, 0o600)
		}))
		return dir
	}
	begun := func(dir string) {
		t.Helper()
		file, err := readService(dir)
		must(t, err)
		roots, err := openRootKeys(t.Context(), dir)
		must(t, err)
		must(t, beginRoot(t.Context(), dir, file, roots.current, time.Now()))
	}
	for name, cut := range map[string]func(dir string){
		"the new key file written halfway": func(dir string) {
			must(t, os.WriteFile(filepath.Join(dir, fileRootKeyNext), []byte("vouchsafe-key-v1 AAA"), 0o600))
		},
		"before anything is sealed": func(dir string) {
			begun(dir)
			must(t, os.Remove(filepath.Join(dir, fileSealedNext)))
		},
		"before anything is wrapped anew": begun,
		"with the store wrapped anew, and no file": func(dir string) {
			begun(dir)
			roots, err := openRootKeys(t.Context(), dir)
			must(t, err)
			mac, err := os.ReadFile(filepath.Join(dir, fileBackupMAC))
			must(t, err)
			_, err = rewrapAll(t.Context(), dir, roots)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, fileBackupMAC), mac, 0o600))
		},
		"before the new root key is the one": func(dir string) {
			begun(dir)
			roots, err := openRootKeys(t.Context(), dir)
			must(t, err)
			_, err = rewrapAll(t.Context(), dir, roots)
			must(t, err)
		},
		"before the new key file is the one": func(dir string) {
			begun(dir)
			roots, err := openRootKeys(t.Context(), dir)
			must(t, err)
			_, err = rewrapAll(t.Context(), dir, roots)
			must(t, err)
			must(t, renameDurable(filepath.Join(dir, fileSealedNext), filepath.Join(dir, fileSealed)))
		},
		"before the old key file is forgotten": func(dir string) {
			begun(dir)
			roots, err := openRootKeys(t.Context(), dir)
			must(t, err)
			_, err = rewrapAll(t.Context(), dir, roots)
			must(t, err)
			must(t, renameDurable(filepath.Join(dir, fileSealedNext), filepath.Join(dir, fileSealed)))
			must(t, renameDurable(filepath.Join(dir, fileRootKeyNext), filepath.Join(dir, fileRootKey)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTo()
			cut(dir)
			if !unfinishedRoot(dir) {
				t.Error("nobody notices that it is unfinished")
			}
			fs, err := examine(t.Context(), dir, nil)
			must(t, err)
			if len(fs) != 1 || fs[0].Code != "ROTATION_UNFINISHED" {
				t.Errorf("check says %v", fs)
			}
			// A backup of this moment is whole as well.
			b := filepath.Join(t.TempDir(), "b")
			_, err = backupService(t.Context(), dir, b)
			must(t, err)
			same(t, "the next start", leaseKeys(t, dir, vms), want)
			if unfinishedRoot(dir) {
				t.Error("it is unfinished still")
			}
			noErrors(t, dir)
			to := filepath.Join(t.TempDir(), "restored")
			_, _, err = restoreService(t.Context(), b, recoveryOf[base], to, nil)
			must(t, err)
			same(t, "restored", leaseKeys(t, to, vms), want)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotateRootKill kills the rotation with SIGKILL at any moment, again and
// again on one state directory: nothing is ever lost.
func TestRotateRootKill(t *testing.T) {
	const vms = 100
	cycles := 12
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 200
	}
	bin := filepath.Join(t.TempDir(), "vouchsafe")
	must(t, os.Symlink(os.Args[0], bin))
	dir := filepath.Join(t.TempDir(), "state")
	populated(t, dir, vms)
	want := leaseKeys(t, dir, vms)
	start := time.Now()
	if out, err := exec.Command(bin, "key", "rotate", "root", "--state", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(start)
	cut := 0
	for i := range cycles {
		cmd := exec.Command(bin, "key", "rotate", "root", "--state", dir)
		var words bytes.Buffer
		cmd.Stderr = &words
		must(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill() })
		if i%3 > 0 { // two of three once it has begun, one whenever
			for j := 0; j < 5000 && !exists(filepath.Join(dir, fileRootKeyNext)) && !exists(filepath.Join(dir, fileSealedNext)); j++ {
				time.Sleep(100 * time.Microsecond)
			}
			time.Sleep(time.Duration(mathrand.Int64N(int64(20 * time.Millisecond))))
		} else {
			time.Sleep(time.Duration(mathrand.Int64N(int64(whole))))
		}
		cmd.Process.Kill()
		cmd.Wait()
		if unfinishedRoot(dir) {
			cut++
		}
		if mathrand.IntN(2) == 0 { // else the next rotation finishes it
			same(t, "after a kill", leaseKeys(t, dir, vms), want)
			noErrors(t, dir)
		}
		if t.Failed() {
			t.Fatal(words.String())
		}
	}
	if _, err := rotateRoot(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	same(t, "at the end", leaseKeys(t, dir, vms), want)
	noErrors(t, dir)
	if cut == 0 {
		t.Error("no kill left a rotation unfinished: the test kills too late")
	}
	t.Logf("%d kills within %v, %d of them left a rotation unfinished", cycles, whole, cut)
}

// TestRotateAuthority: a new key and certificate; what the one before issued is
// believed, and both sign lists of what was revoked.
func TestRotateAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	newState(t, dir)
	if _, err := rotateAuthority(t.Context(), dir, "operator", filepath.Join(dir, fileRootKey)); err == nil {
		t.Error("a key that is not the recovery key signed")
	}
	cert, err := rotateAuthority(t.Context(), dir, "operator", recoveryOf[dir])
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var words locked
	go func() { ended <- serve(ctx, &app{err: &words}, dir, serverOptions{listen: "127.0.0.1:0"}) }()
	c := operatorOf(t, dir, waitURL(t, dir, &words)) // issued by the authority before
	var crl struct{ PEM string }
	must(t, c.call(t.Context(), "GET", "/v1/crls/operator", nil, &crl))
	if n := bytes.Count([]byte(crl.PEM), []byte("BEGIN X509 CRL")); n != 2 {
		t.Errorf("%d CRLs, want one of each authority", n)
	}
	var again struct{ PEM string }
	must(t, c.call(t.Context(), "GET", "/v1/crls/operator", nil, &again))
	if again.PEM != crl.PEM {
		t.Error("a list that nothing was added to was signed anew")
	}
	var a struct{ PEM string }
	must(t, c.call(t.Context(), "GET", "/v1/authorities/operator", nil, &a))
	if got, err := parseCertificate([]byte(a.PEM)); err != nil || !got.Equal(cert) {
		t.Errorf("the new authority does not sign: %v", err)
	}
	stop()
	must(t, <-ended)
	noErrors(t, dir)
	for range keyring.Historic - 1 {
		_, err = rotateAuthority(t.Context(), dir, "operator", recoveryOf[dir])
		must(t, err)
	}
	_, err = rotateAuthority(t.Context(), dir, "operator", recoveryOf[dir])
	if refused(err, "still in use") != nil {
		t.Errorf("a fifth authority alive: %v", err)
	}
	noErrors(t, dir)
}
