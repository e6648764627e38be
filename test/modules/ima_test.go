package modules_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/test/modules/guest"
)

// TestServiceKnowsModules: a real kernel measures what it loads into our vTPM,
// the agent in the guest sends IMA's list with its quote, and the service names
// what was loaded, and refuses what is on no list.
//
//	vouchsafe server <--TLS-- vouchsafe-agent in QEMU --/dev/tpmrm0--> vouchsafe vtpm serve
//	     this test  <--HTTP-- imaguest (/init): load, run, off
func TestServiceKnowsModules(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	neighbour(t, "qemu-system-x86_64", "qemu-system-x86")
	g := newIMAGuest(t)
	list := "/sys/kernel/security/ima/binary_runtime_measurements"

	// 1. A first boot: approved while the agent waits. Nothing is required of modules.
	g.boot(t, "")
	agent := g.start(t, "/agent", "attest", "--ima", list, "--credential", "/credential", "--wait", "4m")
	g.until(t, "policy", "enroll", "web1")
	if r := <-agent; r.Err != "" || !strings.Contains(r.Output, "web1 is admitted") {
		t.Fatalf("the agent: %s\n%s", r.Err, r.Output)
	}
	shown := g.vouchsafe(t, 3, "attest", "show", "web1") // 3: its host is unattested
	for _, name := range g.first {
		if !strings.Contains(shown, "sha256:"+g.digests[name]+" /modules/"+name) {
			t.Errorf("attest show does not name %s with its digest:\n%s", name, shown)
		}
	}
	if strings.Contains(shown, "dummy.ko") {
		t.Errorf("a module is named that was not loaded:\n%s", shown)
	}

	// 2. What was loaded becomes the list; the guest goes on being admitted.
	g.vouchsafe(t, 0, "policy", "modules", "web1", "--loaded")
	g.admitted(t, "--ima", list)

	// 3. Without the IMA list it is refused, and so is a module that is on no list.
	g.refused(t, "IMA_LOG_MISSING")
	g.load(t, "dummy.ko")
	g.refused(t, "MODULE_NOT_ALLOWED: /modules/dummy.ko sha256:"+g.digests["dummy.ko"], "--ima", list)
	zh := g.vouchsafe(t, 3, "attest", "show", "web1", "--lang", "zh")
	if !strings.Contains(zh, "错误 MODULE_NOT_ALLOWED：web1") || !strings.Contains(zh, "dummy.ko") || !strings.Contains(zh, "不在任何模块允许列表中") {
		t.Errorf("in Chinese:\n%s", zh)
	}

	// 4. Allowed by its file, a list beside the other, it is admitted; withdrawn, refused again.
	g.vouchsafe(t, 0, "policy", "modules", "web1", "--allow", g.path("dummy.ko"))
	g.admitted(t, "--ima", list)
	g.vouchsafe(t, 0, "policy", "modules", "web1", "--withdraw", "2")
	g.refused(t, "MODULE_NOT_ALLOWED: /modules/dummy.ko", "--ima", list)
	g.off(t)

	// 5. The next boot: the name is listed, the file is another.
	g.vouchsafe(t, 0, "policy", "modules", "web1", "--allow", g.path("dummy.ko"))
	g.boot(t, "")
	g.load(t, "other/dummy.ko")
	g.refused(t, "MODULE_CHANGED: /modules/other/dummy.ko", "--ima", list)
	g.off(t)

	// 6. A kernel that was not told to measure: the boot is another one, since the
	// command line is, but under SeaBIOS nothing measures that.
	g.boot(t, "measure=no")
	g.refused(t, "MODULES_NOT_MEASURED", "--ima", list)
	g.off(t)
}

// imaGuest is a guest with a vTPM, its service, and the way to tell it what to do.
type imaGuest struct {
	dir, state, kernel, initrd string
	first                      []string // modules, in the order of loading
	files                      map[string]string
	digests                    map[string]string
	program                    string
	control                    net.Listener
	orders                     chan order
	reports                    chan report
	qemu                       *exec.Cmd
	ended                      chan struct{}
	console                    bytes.Buffer
}

type order struct {
	Load string
	Run  []string
	Off  bool
}

type report struct{ Output, Err string }

func (g *imaGuest) path(name string) string { return g.files[name] }

func newIMAGuest(t *testing.T) *imaGuest {
	kernels, _ := filepath.Glob("/boot/vmlinuz-6.1.*-cloud-amd64")
	if len(kernels) == 0 {
		t.Skip("no kernel: apt-get install linux-image-cloud-amd64")
	}
	dir, err := os.MkdirTemp("", "vs") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &imaGuest{dir: dir, state: filepath.Join(dir, "state"), kernel: kernels[len(kernels)-1], files: map[string]string{}, digests: map[string]string{},
		program: filepath.Join(dir, "vouchsafe"), orders: make(chan order), reports: make(chan report)}
	for _, b := range [][3]string{{g.program, "../..", "./cmd/vouchsafe"}, {filepath.Join(dir, "agent"), "../..", "./cmd/vouchsafe-agent"}, {filepath.Join(dir, "init"), ".", "./imaguest"}} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b[0], b[2])
		build.Dir, build.Env = b[1], append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", b[2], err, out)
		}
	}

	if err := os.Mkdir(filepath.Join(dir, "tpm"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A vTPM, the service, and the VM on record by its endorsement key.
	g.vouchsafe(t, 0, "vtpm", "setup", "--tpm2", "--tpmstate", filepath.Join(dir, "tpm"), "--createek", "--create-ek-cert", "--vmid", "web1",
		"--local-ca", filepath.Join(dir, "ca"), "--write-ek-cert-files", dir, "--pcr-banks", "sha256")
	certs, _ := filepath.Glob(filepath.Join(dir, "ek-*384*"))
	if len(certs) == 0 {
		certs, _ = filepath.Glob(filepath.Join(dir, "ek-*"))
	}
	ek := writeFile(t, dir, "ek.pem", publicKeyPEM(t, read(t, certs[0])))
	g.vouchsafe(t, 0, "init")
	g.daemon(t, "server", "--listen", "127.0.0.1:0", "--name", "10.0.2.2")
	waitForFile(t, filepath.Join(g.state, "operator/url"))
	g.vouchsafe(t, 0, "host", "add", "h1", "--accept-unattested-host")
	g.vouchsafe(t, 0, "vm", "create", "web1", "--host", "h1", "--ek-public", ek)
	credential := filepath.Join(dir, "credential")
	g.vouchsafe(t, 0, "ca", "credential", "web1", "--kind", "guest", "-o", credential)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(strings.TrimSpace(string(read(t, filepath.Join(g.state, "operator/url")))), "https://"))
	writeFile(t, credential, "url", []byte("https://10.0.2.2:"+port+"\n"))

	// What the guest asks for orders.
	if g.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /order", func(w http.ResponseWriter, r *http.Request) {
		select {
		case o := <-g.orders:
			_ = json.NewEncoder(w).Encode(o)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		var rep report
		_ = json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&rep)
		g.reports <- rep
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(g.control) }()
	t.Cleanup(func() { srv.Close() })

	// The initramfs.
	release := strings.TrimPrefix(filepath.Base(g.kernel), "vmlinuz-")
	modules := "/lib/modules/" + release + "/kernel/"
	var files []guest.File
	add := func(name, from string) {
		data := read(t, from)
		sum := sha256.Sum256(data)
		g.files[name], g.digests[name] = from, hex.EncodeToString(sum[:])
		files = append(files, guest.File{Name: "modules/" + name, Data: data})
	}
	for _, m := range []string{"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
		"drivers/virtio/virtio_pci.ko", "net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"} {
		g.first = append(g.first, filepath.Base(m))
		add(filepath.Base(m), modules+m)
	}
	add("dummy.ko", modules+"drivers/net/dummy.ko")
	add("other/dummy.ko", find(t, modules+"drivers/net", "veth.ko")) // another file under the listed name
	files = append(files, guest.File{Name: "modules/first", Data: []byte(strings.Join(g.first, "\n"))}, guest.File{Name: "agent", Data: read(t, filepath.Join(dir, "agent"))})
	for _, name := range []string{"url", "ca.pem", "cert.pem", "key.pem"} {
		files = append(files, guest.File{Name: "credential/" + name, Data: read(t, filepath.Join(credential, name))})
	}
	g.initrd = writeFile(t, dir, "initrd", guest.Archive(read(t, filepath.Join(dir, "init")), files))
	return g
}

// vouchsafe runs one command line and wants its exit code.
func (g *imaGuest) vouchsafe(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), g.program, args...)
	cmd.Env = append(os.Environ(), "VOUCHSAFE_STATE="+g.state, "LANG=C", "LC_ALL=C")
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code {
		t.Fatalf("vouchsafe %s: exit %d, want %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), code, out)
	}
	return string(out)
}

// until repeats a command until it succeeds.
func (g *imaGuest) until(t *testing.T, args ...string) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		cmd := exec.CommandContext(t.Context(), g.program, args...)
		cmd.Env = append(os.Environ(), "VOUCHSAFE_STATE="+g.state)
		var err error
		if out, err = cmd.CombinedOutput(); err == nil {
			return
		}
	}
	t.Fatalf("vouchsafe %s never succeeded:\n%s\n%s", strings.Join(args, " "), out, g.console.String())
}

// daemon runs until the test ends.
func (g *imaGuest) daemon(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(g.program, args...)
	cmd.Env = append(os.Environ(), "VOUCHSAFE_STATE="+g.state)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// boot starts the vTPM and the guest.
func (g *imaGuest) boot(t *testing.T, extra string) {
	t.Helper()
	sock := filepath.Join(g.dir, "tpm.sock")
	_ = os.Remove(sock)
	g.daemon(t, "vtpm", "serve", "--tpmstate", "dir="+filepath.Join(g.dir, "tpm"), "--ctrl", "type=unixio,path="+sock, "--terminate")
	waitForFile(t, sock)
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	_, port, _ := net.SplitHostPort(g.control.Addr().String())
	g.qemu = exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot",
		"-serial", "stdio", "-kernel", g.kernel, "-initrd", g.initrd, "-append", "console=ttyS0 quiet panic=-1 no_timer_check control=10.0.2.2:"+port+" "+extra,
		"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n",
		"-chardev", "socket,id=chrtpm,path="+sock, "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", "tpm-crb,tpmdev=tpm0")
	g.console.Reset()
	g.qemu.Stdout, g.qemu.Stderr = &g.console, &g.console
	if err := g.qemu.Start(); err != nil {
		t.Fatal(err)
	}
	qemu, ended := g.qemu, make(chan struct{})
	g.ended = ended
	go func() { _ = qemu.Wait(); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
}

// order has the guest do something.
func (g *imaGuest) order(t *testing.T, o order) {
	t.Helper()
	select {
	case g.orders <- o:
	case <-g.ended:
		t.Fatalf("the guest is gone:\n%s", g.console.String())
	case <-time.After(90 * time.Second):
		t.Fatalf("the guest asks for nothing:\n%s", g.console.String())
	}
}

// start runs a program in the guest.
func (g *imaGuest) start(t *testing.T, args ...string) <-chan report {
	t.Helper()
	g.order(t, order{Run: args})
	return g.reports
}

func (g *imaGuest) load(t *testing.T, name string) {
	t.Helper()
	g.order(t, order{Load: "/modules/" + name})
	if r := <-g.reports; r.Err != "" {
		t.Fatalf("loading %s: %s\n%s", name, r.Err, g.console.String())
	}
}

func (g *imaGuest) attest(t *testing.T, more []string) report {
	t.Helper()
	return <-g.start(t, append([]string{"/agent", "attest", "--credential", "/credential", "--wait", "1m"}, more...)...)
}

func (g *imaGuest) admitted(t *testing.T, more ...string) {
	t.Helper()
	if r := g.attest(t, more); r.Err != "" || !strings.Contains(r.Output, "web1 is admitted") {
		t.Fatalf("not admitted: %s\n%s", r.Err, r.Output)
	}
}

// refused wants a refusal, and the code with its evidence where the operator looks.
func (g *imaGuest) refused(t *testing.T, why string, more ...string) {
	t.Helper()
	code, evidence, _ := strings.Cut(why, ": ")
	if r := g.attest(t, more); r.Err == "" || !strings.Contains(r.Output, code) {
		t.Fatalf("want %s: %s\n%s", why, r.Err, r.Output)
	}
	shown := g.vouchsafe(t, 3, "attest", "show", "web1")
	if !strings.Contains(shown, "error "+code+": web1") || !strings.Contains(shown, evidence) {
		t.Fatalf("attest show does not say %s:\n%s", why, shown)
	}
	if audit := g.vouchsafe(t, 0, "audit", "list", "--object", "web1"); !strings.Contains(audit, evidence) {
		t.Errorf("the audit log does not say %s:\n%s", why, audit)
	}
	t.Logf("refused: %s", strings.TrimSpace(shown[strings.Index(shown, "error "+code):]))
}

func (g *imaGuest) off(t *testing.T) {
	t.Helper()
	g.order(t, order{Off: true})
	select {
	case <-g.ended:
	case <-time.After(time.Minute):
		t.Fatal("the guest does not switch off")
	}
}

func publicKeyPEM(t *testing.T, der []byte) []byte {
	t.Helper()
	// Only the key is of interest, and crypto/x509 may complain of the rest of an EK certificate.
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

func waitForFile(t *testing.T, name string) {
	t.Helper()
	for range 300 {
		if _, err := os.Stat(name); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(fmt.Errorf("%s did not appear", name))
}
