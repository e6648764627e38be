package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// newState makes a service in a directory, with its recovery key elsewhere.
func newState(t *testing.T, dir string) {
	t.Helper()
	recovery := filepath.Join(t.TempDir(), "recovery.key")
	if _, _, err := createService(t.Context(), dir, initOptions{trustDomain: "vouchsafe.test", operator: "alice", recovery: recovery}); err != nil {
		t.Fatal(err)
	}
	recoveryOf[dir] = recovery
}

// recoveryOf is where newState put the recovery key of each state directory.
var recoveryOf = map[string]string{}

// operatorOf calls the service of a state directory.
func operatorOf(t *testing.T, dir, url string) *apiClient {
	t.Helper()
	cred := filepath.Join(dir, dirOperator)
	cert, err := tls.LoadX509KeyPair(filepath.Join(cred, credentialCert), filepath.Join(cred, credentialKey))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(cred, credentialCA))
	if err != nil {
		t.Fatal(err)
	}
	root, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(url, cert, root)
}

// locked is a buffer that one side writes and another reads.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitURL waits for a server to say where it listens.
func waitURL(t *testing.T, dir string, words fmt.Stringer) string {
	t.Helper()
	for range 1000 {
		if b, err := os.ReadFile(filepath.Join(dir, fileURL)); err == nil && len(b) > 0 {
			return strings.TrimSpace(string(b))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the server did not start within 20 s; it said: %s", words)
	return ""
}

func birthOf(t *testing.T, name string) api.NewVM {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return api.NewVM{Name: name, Host: "h1", EKPublic: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// noErrors examines a state directory.
func noErrors(t *testing.T, dir string, outside ...audit.Outside) {
	t.Helper()
	fs, err := examine(t.Context(), dir, outside)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		if f.Severity == finding.Error {
			t.Errorf("%s: %s: %s", f.Code, f.Subject, f.Evidence)
		}
	}
}

// TestServiceKill kills the server with SIGKILL while VMs are being made and a host is
// revoked and reinstated, again and again: every VM that was acknowledged is there,
// with its record, every checkpoint that was handed out still holds, and no
// revocation is half there.
func TestServiceKill(t *testing.T) {
	cycles := 4
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 200
	}
	bin := filepath.Join(t.TempDir(), "vouchsafe") // by this name TestMain knows what to be
	if err := os.Symlink(os.Args[0], bin); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	newState(t, dir)
	var mu sync.Mutex
	acked := map[string]bool{}
	var checkpoint string
	var revoked atomic.Int32
	for cycle := range cycles {
		os.Remove(filepath.Join(dir, fileURL))
		var words locked
		cmd := exec.Command(bin, "server", "--state", dir, "--listen", "127.0.0.1:0")
		cmd.Stderr = &words
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() }) // in case the test gives up
		c := operatorOf(t, dir, waitURL(t, dir, &words))
		if cycle == 0 {
			if err := c.call(t.Context(), "POST", "/v1/hosts", api.NewHost{Name: "h1"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := 0; ; j++ {
					name := fmt.Sprintf("vm-%d-%d-%d", cycle, i, j)
					var vm api.VM
					if err := c.callOnce(context.Background(), "POST", "/v1/vms", name, birthOf(t, name), &vm); err != nil {
						return // the server is gone
					}
					mu.Lock()
					acked[name], checkpoint = true, vm.Checkpoint
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			for do := func(path string, in any) error { return c.call(context.Background(), "POST", path, in, nil) }; ; {
				if do("/v1/hosts", api.NewHost{Name: "h2", AcceptUnattested: true}) != nil && do("/v1/hosts/h2/reinstate", api.HostChange{Reason: "test"}) != nil {
					return // the server is gone
				}
				askCredential(context.Background(), c, ca.KindAgent, "h2")
				if do("/v1/hosts/h2/revoke", api.HostChange{Reason: "test"}) == nil {
					revoked.Add(1)
				}
			}
		})
		time.Sleep(time.Duration(50+mathrand.IntN(250)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		wg.Wait()
		if t.Failed() {
			t.Fatalf("cycle %d: %s", cycle, words.String())
		}
		var outside []audit.Outside
		if checkpoint != "" { // a busy machine may have made none yet
			outside = []audit.Outside{{Name: "handed out", Signed: []byte(checkpoint)}}
		}
		noErrors(t, dir, outside...)
	}
	s, err := openService(t.Context(), dir, serviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for name := range acked {
		if _, err := s.store.VM(t.Context(), defaultTenant, name); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	if len(acked) < cycles {
		t.Errorf("only %d VMs: the test kills too early", len(acked))
	}
	t.Logf("%d kills, %d VMs acknowledged, none lost; a host was revoked %d times", cycles, len(acked), revoked.Load())
}

// TestServiceFullDisk fills the disk under a running service: writes are
// refused loudly, reads go on, and all is well when there is room again.
func TestServiceFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small tmpfs needs root: %v", err)
	}
	defer syscall.Unmount(mount, syscall.MNT_DETACH)
	dir := filepath.Join(mount, "state")
	newState(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var words locked
	go func() { ended <- serve(ctx, &app{err: &words}, dir, serverOptions{listen: "127.0.0.1:0"}) }()
	c := operatorOf(t, dir, waitURL(t, dir, &words))
	if err := c.call(t.Context(), "POST", "/v1/hosts", api.NewHost{Name: "h1"}, nil); err != nil {
		t.Fatal(err)
	}
	create := func(name string) error { return c.call(t.Context(), "POST", "/v1/vms", birthOf(t, name), nil) }
	if err := create("before"); err != nil {
		t.Fatal(err)
	}
	hog, err := os.Create(filepath.Join(mount, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	refused := 0
	var made []string
	for i := range 100 { // pages that were begun still take some
		name := fmt.Sprintf("during-%d", i)
		if err := create(name); err == nil {
			made = append(made, name)
		} else if refused++; !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("the refusal says: %v", err)
		}
		if err := c.call(t.Context(), "GET", "/v1/vms/before", nil, nil); err != nil {
			t.Fatalf("reading on a full disk: %v", err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused on a full disk")
	}
	if err := hog.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := create("after"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for _, name := range append(made, "before", "after") {
		if err := c.call(t.Context(), "GET", "/v1/vms/"+url.PathEscape(name), nil, nil); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("stopping: %v", err)
	}
	noErrors(t, dir)
	t.Logf("%d refused, %d taken while the disk was full", refused, len(made))
}

// TestCheckFindingsDocumented holds docs/findings/service.md and the catalogue together.
func TestCheckFindingsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/findings/service.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range checkFindings {
		if !strings.Contains(string(doc), "## "+e.Code+"\n") {
			t.Errorf("%s is not explained", e.Code)
		}
		if e.Meaning.ZH == "" || e.Remedy.ZH == "" {
			t.Errorf("%s has no Chinese", e.Code)
		}
	}
}
