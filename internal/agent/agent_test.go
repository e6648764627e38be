package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// TestLUKS works with cryptsetup itself, on files.
func TestLUKS(t *testing.T) {
	if _, err := cryptsetup(t.Context(), nil, "--version"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	file := func(name string) LUKS {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 8<<20); err != nil {
			t.Fatal(err)
		}
		return LUKS{Device: path, Scratch: dir}
	}
	key, wrong := secret.Random(32), secret.Random(32)
	mine, other := file("mine"), file("other")
	if ok, err := mine.Formatted(t.Context()); ok || err != nil {
		t.Errorf("an empty file is formatted: %v, %v", ok, err)
	}
	digest, err := mine.Format(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Format(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if ok, err := mine.Formatted(t.Context()); !ok || err != nil {
		t.Errorf("formatted: %v, %v", ok, err)
	}
	if err := mine.Check(t.Context(), key, digest); err != nil {
		t.Error(err)
	}
	if err := mine.Check(t.Context(), wrong, digest); !errors.Is(err, ErrShut) {
		t.Errorf("with a wrong key: %v", err)
	}
	if err := other.Check(t.Context(), key, digest); !errors.Is(err, ErrOtherDisk) {
		t.Errorf("another disk with the same key: %v", err)
	}
	// Two disks at the same moment do not get into each other's way.
	second := secret.Random(32)
	data := file("data")
	recorded, err := data.Format(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := mine.Check(t.Context(), key, digest); err != nil {
				t.Errorf("one of two at once: %v", err)
			}
		})
		wg.Go(func() {
			if err := data.Check(t.Context(), second, recorded); err != nil {
				t.Errorf("the other of two at once: %v", err)
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(dir, "vouchsafe-header*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := file("empty").Check(t.Context(), key, digest); !errors.Is(err, ErrShut) {
		t.Errorf("an empty disk: %v", err)
	}
	if err := (LUKS{Device: filepath.Join(dir, "nothing"), Scratch: dir}).Check(t.Context(), key, digest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no disk: %v", err)
	}
}

// TestLUKSMetadata: a header that says that less is encrypted is refused.
func TestLUKSMetadata(t *testing.T) {
	const good = `"0":{"type":"crypt","offset":"5242880","encryption":"aes-xts-plain64","sector_size":4096}`
	for text, ok := range map[string]bool{
		`{"segments":{` + good + `}}`:                                         true,
		`{"segments":{"0":{"type":"crypt","encryption":"cipher_null-ecb"}}}`:  false,
		`{"segments":{"0":{"type":"linear","encryption":"aes-xts-plain64"}}}`: false,
		`{"segments":{` + good + `,"1":{"type":"linear","offset":"0"}}}`:      false,
		`{"segments":{}}`: false,
		`{`:               false,
	} {
		if err := checkMetadata([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestWait: what may pass is waited for, a bounded time; a no is final.
func TestWait(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		tries int
	}{
		{"done", nil, 1},
		{"revoked", &attester.Refused{Status: 403, Code: "VM_REVOKED"}, 1},
		{"a changed boot", &attester.Refused{Status: 403, Code: "BOOT_DIFFERS"}, 1},
		{"another CA", x509.UnknownAuthorityError{}, 1},
		{"nobody there", errors.New("connection refused"), 1}, // once: there is less time than a pause
	} {
		tries := 0
		start := time.Now()
		err := Wait(t.Context(), time.Second, func(error, time.Duration) { t.Errorf("%s: waits", tt.name) }, func(context.Context) error { tries++; return tt.err })
		if !errors.Is(err, tt.err) || tries != tt.tries || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v after %d tries", tt.name, err, tries)
		}
	}
	for err, want := range map[error]bool{
		&attester.Refused{Status: 503, Code: "BUSY"}:              true,
		&attester.Refused{Status: 403, Code: "REFERENCE_MISSING"}: true,
		&attester.Refused{Status: 403, Code: "DISK_SWAPPED"}:      false,
		os.ErrNotExist: false,
	} {
		if passing(err) != want {
			t.Errorf("%v: waiting is %v, want %v", err, !want, want)
		}
	}
}

// TestSources: a directory before fw_cfg, and the command line's address before both.
func TestSources(t *testing.T) {
	dir, fw := t.TempDir(), t.TempDir()
	line := filepath.Join(dir, "cmdline")
	for path, text := range map[string]string{line: "ro vouchsafe.url=https://c quiet\n", filepath.Join(fw, "url", "raw"): "https://f\x00", filepath.Join(dir, "long"): strings.Repeat("a", maxGiven+1)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := Sources{Dir: dir, FwCfg: fw, CommandLine: line}
	if g, err := s.Load(""); g.URL != "https://c" || err == nil || !strings.Contains(err.Error(), "the service's CA") {
		t.Errorf("%q, %v", g.URL, err)
	}
	s.CommandLine = "/nonexistent"
	if g, _ := s.Load(""); g.URL != "https://f" {
		t.Errorf("%q", g.URL)
	}
	if _, err := s.read("long"); err == nil {
		t.Error("a file of any length is read")
	}
}

// TestPins: what is pinned must be so, wherever it is said.
func TestPins(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, err := url.Parse("spiffe://vouchsafe.test/default/guest/web1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{name}}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	right, wrong := Fingerprint(cert), strings.Repeat("00", 32)
	for _, tt := range []struct {
		name, line, fingerprint, vm, says string
	}{
		{name: "nothing is pinned"},
		{name: "all of it", line: "vouchsafe.ca=sha256:" + right + " vouchsafe.vm=web1", fingerprint: right + "\n", vm: "web1\n"},
		{name: "upper case", line: "vouchsafe.ca=" + strings.ToUpper(right)},
		{name: "another CA, by the command line", line: "vouchsafe.ca=sha256:" + wrong, fingerprint: right, says: "another CA than the kernel's command line says"},
		{name: "another CA, by the file", line: "vouchsafe.ca=" + right, fingerprint: wrong, says: "another CA than fingerprint says"},
		{name: "an empty file", fingerprint: "\n", says: "another CA"},
		{name: "another VM", line: "vouchsafe.vm=web2", says: "the credential of web1; this is web2"},
		{name: "another VM, by the file", vm: "web2", says: "this is web2, as vm says"},
	} {
		dir := t.TempDir()
		for file, data := range map[string]string{FileURL: "https://service", FileCA: string(text), FileCert: string(text),
			FileKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "line": tt.line, FileFingerprint: tt.fingerprint, FileVM: tt.vm} {
			if data == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Sources{Dir: dir, CommandLine: filepath.Join(dir, "line")}.Load("")
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

func FuzzLUKSMetadata(f *testing.F) {
	f.Add([]byte(`{"segments":{"0":{"type":"crypt","encryption":"aes-xts-plain64"}}}`))
	f.Add([]byte(`{"segments":{"0":{"type":"crypt","encryption":"cipher_null-ecb"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkMetadata(b) == nil && !strings.Contains(string(b), luksCipher) && !strings.Contains(string(b), `\u`) {
			t.Errorf("accepted %q", b)
		}
	})
}

func FuzzVolumeKey(f *testing.F) {
	f.Add([]byte("MK bits: 512\nMK dump:\t" + strings.Repeat("0f ", 64) + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := volumeKey(b); err == nil && len(k) != 64 {
			t.Errorf("%d bytes", len(k))
		}
	})
}

// FuzzUnlock is what a service may send as an approval.
func FuzzUnlock(f *testing.F) {
	f.Add([]byte("key"), []byte{0, 0, 0, 1, 0, 11, 3, 1, 2, 3}, []byte{0, 0x18, 0, 11, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, key, selection, signature []byte) {
		u, err := newUnlocking(&admission.Unlock{PolicyKey: key, Approval: &attest.Approval{Selection: selection, Signature: signature}})
		if err == nil && string(tpm2.Marshal(&u.signature)) != string(signature) {
			t.Errorf("signature %x is read as another one", signature)
		}
	})
}
