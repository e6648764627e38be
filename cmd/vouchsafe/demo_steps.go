package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// demo is what the steps hand on to each other.
type demo struct {
	ctx  context.Context
	app  *app
	dir  string // temporary: service, state, sockets, disks
	keep string // evidence, or ""

	stopService func() error
	operator    *apiClient
	host        *apiClient
	root        *x509.Certificate
	guest       tls.Certificate // the agent's first credential
	activate    []string        // PCR banks of the vTPM; nil: all

	stopVTPM   func() // ends the running vTPM
	vtpm       *vtpm.Instance
	tpm        *client.Client
	lease      hosting.Lease
	generation int64 // of the vTPM's state on the host's disk
	log        []byte
	banks      []eventlog.Alg

	adm    *agent.Admission // the last one
	unlock admission.Unlock // for the TPM
	disk   demoDisk
	key    secret.Bytes // the disk key, to compare with
	volume []byte       // the recorded digest of its volume key
	record admission.Request
}

func newDemo(ctx context.Context, a *app, keep string) (*demo, error) {
	// In memory where there is room: the demo waits for many fsyncs, and leaves nothing.
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "vouchsafe-demo-")
	if err != nil && parent != "" {
		dir, err = os.MkdirTemp("", "vouchsafe-demo-")
	}
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	d := &demo{ctx: ctx, app: a, dir: dir, keep: keep}
	if err := d.serve(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// say is what was checked, in the person's language.
func (d *demo) say(en, zh string) string { return finding.Text{EN: en, ZH: zh}.In(d.app.dataLang()) }

func (d *demo) close() {
	d.powerOff()
	if d.stopService != nil {
		d.stopService()
	}
	os.RemoveAll(d.dir)
}

// refused wants err to be a refusal with this code, and says it.
func refused(err error, code string) error {
	if err == nil {
		return fmt.Errorf("it was not refused, and must be: %s", code)
	}
	if !strings.Contains(err.Error(), code) {
		return fmt.Errorf("it was refused otherwise than by %s: %w", code, err)
	}
	return nil
}

func (d *demo) born() (string, error) {
	// The host proved nothing about itself: somebody must say that this will do.
	var h api.Host
	if err := d.operator.call(d.ctx, "POST", "/v1/hosts", api.NewHost{Name: demoHost, AcceptUnattested: true}, &h); err != nil {
		return "", err
	}
	credential, err := d.credential(ca.KindAgent, demoHost)
	if err != nil {
		return "", err
	}
	d.host = newClient(d.operator.url, credential, d.root)
	state, err := d.state()
	if err != nil {
		return "", err
	}
	ek, err := state.Manufacture(d.activate...)
	if err != nil {
		return "", err
	}
	var vm api.VM
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ek}))
	if err := d.operator.call(d.ctx, "POST", "/v1/vms", api.NewVM{Name: demoVM, Host: demoHost, EKPublic: text, Endorse: true}, &vm); err != nil {
		return "", err
	}
	cert, err := d.endorsed(vm.EKSerial)
	if err != nil {
		return "", err
	}
	issuer, err := d.intermediate(ca.VTPMEK)
	if err != nil {
		return "", err
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return "", fmt.Errorf("verifying the endorsement certificate: %w", err)
	}
	switch public, err := x509.MarshalPKIXPublicKey(cert.PublicKey); {
	case err != nil || !bytes.Equal(public, ek):
		return "", errors.New("the endorsement certificate is for another key")
	case bytes.Contains(cert.Raw, []byte(demoHost)):
		return "", errors.New("the endorsement certificate names the host")
	}
	if err := state.Endorse(api.PEM(cert)); err != nil {
		return "", err
	}
	l, err := d.lend(0)
	if err != nil {
		return "", err
	}
	if err := d.take(l); err != nil {
		return "", err
	}
	if err := d.powerOn(); err != nil {
		return "", err
	}
	if inside, err := d.tpm.ReadCertificate(client.EKP256.CertificateIndex()); err != nil || !inside.Equal(cert) {
		return "", fmt.Errorf("the endorsement certificate is not in the vTPM: %w", err)
	}
	if d.guest, err = d.credential(ca.KindGuest, demoVM); err != nil {
		return "", err
	}
	return fmt.Sprintf(d.say("endorsement key certified by the vTPM CA, without a word about the host; state sealed under a lease of generation %d; "+
		"the host is unattested, accepted as by --accept-unattested-host",
		"背书密钥由 vTPM CA 签发证书，其中不含宿主机信息；状态由第 %d 代租约的密钥加密；宿主机未经证明，等同以 --accept-unattested-host 接受"), d.generation), nil
}

// intermediate is the CA of one purpose, checked against the root that the demo pins.
func (d *demo) intermediate(p ca.Purpose) (*x509.Certificate, error) {
	var a api.Authority
	if err := d.operator.call(d.ctx, "GET", "/v1/authorities/"+string(p), nil, &a); err != nil {
		return nil, err
	}
	c, err := parseCertificate([]byte(a.PEM))
	if err != nil {
		return nil, err
	}
	return c, c.CheckSignatureFrom(d.root)
}

func (d *demo) booted() (string, error) {
	if err := d.boot(demoCommandLine); err != nil {
		return "", err
	}
	n, err := d.replays()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(d.say("%d events extended over the socket; the crypto-agile log leads to PCRs 0 to 15 in %v", "经套接字扩展 %d 个事件；加密敏捷日志重放所得 PCR 0 至 15 在 %v 中均一致"), n, d.banks), nil
}

// attest asks for an admission, in one line. What it left in the TPM goes.
func (d *demo) attest(disk string) (*agent.Admission, error) {
	a, err := d.agent(d.guest)
	if err != nil {
		return nil, err
	}
	if d.adm != nil {
		d.adm.Close()
		d.adm = nil
	}
	adm, err := a.Attest(d.ctx, disk)
	if err == nil {
		d.adm, d.unlock, d.record = adm, adm.Unlock, adm.Request
	}
	return adm, err
}

func (d *demo) attested() (string, error) {
	if _, err := d.attest(""); refused(err, "REFERENCE_MISSING") != nil {
		return "", refused(err, "REFERENCE_MISSING")
	}
	var p api.Policy
	if err := d.operator.call(d.ctx, "POST", "/v1/vms/"+demoVM+"/policy/enroll", api.EnrollPolicy{Note: "the demo's golden boot"}, &p); err != nil {
		return "", err
	}
	adm, err := d.attest("")
	if err != nil {
		return "", err
	}
	var got api.Attestation
	if err := d.operator.call(d.ctx, "GET", "/v1/vms/"+demoVM+"/attestation", nil, &got); err != nil {
		return "", err
	}
	if got.Status != "warning" || adm.Tier != string(enroll.TierUnattested) {
		return "", fmt.Errorf("status %s, tier %s; an unattested host must be warned of", got.Status, adm.Tier)
	}
	return fmt.Sprintf(d.say("refused before any boot was approved (REFERENCE_MISSING), then policy enroll; the AK is in the TPM with the EK of birth, "+
		"its quote covers nonce, VM, keys and TLS connection, the log replays to it: %s, tier %s",
		"批准启动之前被拒绝（REFERENCE_MISSING），随后 policy enroll；AK 与出生时登记的 EK 同在一个 TPM，quote 覆盖随机数、虚拟机、密钥与 TLS 连接，日志重放一致：%s，级别 %s"), got.Status, adm.Tier), nil
}

func (d *demo) certified() (string, error) {
	leaf := d.adm.Chain[0]
	issuer, err := d.intermediate(ca.VMIdentity)
	if err != nil {
		return "", err
	}
	other, err := d.intermediate(ca.Operator)
	if err != nil {
		return "", err
	}
	if err := ca.Verify(leaf, issuer, d.root, time.Now(), x509.ExtKeyUsageClientAuth); err != nil {
		return "", err
	}
	if err := ca.Verify(leaf, other, d.root, time.Now(), x509.ExtKeyUsageClientAuth); err == nil {
		return "", errors.New("the certificate is good under another purpose's CA as well")
	}
	name, err := ca.NameOf(leaf)
	if err != nil {
		return "", err
	}
	tier := slices.IndexFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(ca.OIDAdmissionTier) })
	if tier < 0 || !bytes.Contains(leaf.Extensions[tier].Value, []byte(enroll.TierUnattested)) {
		return "", errors.New("the certificate does not say how much is known of the host")
	}
	if !strings.Contains(d.adm.Checkpoint, "\n") {
		return "", errors.New("the admission came without an audit checkpoint")
	}
	return fmt.Sprintf(d.say("%s, P-384, for a key that cannot leave the vTPM; good under the VM identity CA alone; tier %s inside; with a signed audit checkpoint",
		"%s，P-384，私钥不能离开 vTPM；仅在 VM 身份 CA 之下有效；证书内注明级别 %s；附已签名的审计检查点"), name, enroll.TierUnattested), nil
}

// diskKey gets the key and compares it with the one from before.
func (d *demo) diskKey() error {
	adm, err := d.attest("root")
	if err != nil {
		return err
	}
	a, err := d.agent(d.guest)
	if err != nil {
		return err
	}
	key, err := a.DiskKey(adm, "root")
	if err != nil {
		return err
	}
	if d.key.Len() > 0 && !bytes.Equal(d.key.Reveal(), key.Reveal()) {
		return errors.New("the disk key is another one than before")
	}
	d.key = key
	d.volume = adm.VolumeKey
	return nil
}

func (d *demo) unlocked() (string, error) {
	if err := d.diskKey(); err != nil {
		return "", err
	}
	if len(d.volume) > 0 {
		return "", errors.New("the service knows a volume key before there is a disk")
	}
	var err error
	if d.disk, err = d.newDisk("disk.luks"); err != nil {
		return "", err
	}
	digest, err := d.disk.Format(d.ctx, d.key)
	if err != nil {
		return "", err
	}
	self, err := d.identity(d.adm)
	if err != nil {
		return "", err
	}
	if err := self.RecordVolumeKey(d.ctx, "root", digest); err != nil {
		return "", err
	}
	if err := self.Lock(); err != nil {
		return "", err
	}
	// Once a boot: after PCR 15 was extended neither share opens.
	if _, err := self.LocalShare(&d.unlock); err == nil {
		return "", errors.New("the local share opened twice in one boot")
	}
	if err := d.diskKey(); err == nil {
		return "", errors.New("the disk key was had twice in one boot")
	}
	if err := d.boot(demoCommandLine); err != nil {
		return "", err
	}
	if err := d.diskKey(); err != nil {
		return "", err
	}
	if err := d.disk.Check(d.ctx, d.key, d.volume); err != nil {
		return "", err
	}
	how := d.say("LUKS2 disk", "LUKS2 磁盘")
	if _, ok := d.disk.(envelope); ok {
		how = d.say("envelope (cryptsetup is not installed: apt-get install cryptsetup-bin)", "信封（未安装 cryptsetup：apt-get install cryptsetup-bin）")
	}
	return fmt.Sprintf(d.say("%s formatted at the first admission; the key opens once a boot, and again after a reboot; the volume key is the recorded one",
		"首次准入时格式化 %s；密钥每次启动只能取得一次，重启后再次可得；卷密钥与登记的一致"), how), nil
}

func (d *demo) mutualTLS() (string, error) {
	self, err := d.adm.TLS()
	if err != nil {
		return "", err
	}
	// As a client of the service.
	var s api.Service
	if err := newClient(d.operator.url, self, d.root).call(d.ctx, "GET", "/v1/service", nil, &s); err != nil {
		return "", fmt.Errorf("as a client: %w", err)
	}
	// As a server, to a client that wants this VM.
	pool := x509.NewCertPool()
	pool.AddCert(d.root)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{self}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	if err != nil {
		return "", err
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Write([]byte("hello"))
			err = errors.Join(err, c.Close())
		}
		answered <- err
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: demoVM, Certificates: []tls.Certificate{self}})
	if err != nil {
		return "", fmt.Errorf("as a server: %w", err)
	}
	defer c.Close()
	b := make([]byte, 5)
	if _, err := c.Read(b); err != nil || string(b) != "hello" {
		return "", fmt.Errorf("as a server: %w", err)
	}
	return d.say("TLS 1.3 in both directions, as a client of the service and as the server "+demoVM+"; each handshake was signed inside the vTPM",
		"双向 TLS 1.3：作为服务的客户端，以及作为服务器 "+demoVM+"；每次握手均在 vTPM 内签名"), errors.Join(<-answered)
}

func (d *demo) tampered() (string, error) {
	// 1. Another command line, honestly logged.
	if err := d.boot(demoCommandLine + " init=/bin/sh"); err != nil {
		return "", err
	}
	shut := func() error {
		a, err := d.agent(d.guest)
		if err != nil {
			return err
		}
		share, err := a.LocalShare(&d.unlock)
		share.Erase()
		if err == nil {
			return errors.New("the TPM unsealed the local share in a boot that nobody approved")
		}
		return nil
	}
	if err := shut(); err != nil {
		return "", err
	}
	_, err := d.attest("root")
	if err := refused(err, "BOOT_DIFFERS"); err != nil {
		return "", err
	}
	named := err.Error()
	_, named, ok := strings.Cut(named, "the first event that differs: ")
	if !ok || !strings.Contains(named, "PCR 9") {
		return "", fmt.Errorf("the service names no event: %w", err)
	}
	named, _, _ = strings.Cut(named, ";")
	// 2. The approved boot, and an extend that no log has.
	if err := d.boot(demoCommandLine, 4); err != nil {
		return "", err
	}
	if err := shut(); err != nil {
		return "", err
	}
	_, err = d.attest("root")
	if err := refused(err, "EVENT_LOG_MISMATCH"); err != nil {
		return "", err
	}
	if err := refused(err, "PCR 4"); err != nil {
		return "", err
	}
	// 3. Without it.
	if err := d.well(); err != nil {
		return "", err
	}
	return fmt.Sprintf(d.say("command line changed: the TPM does not unseal, and BOOT_DIFFERS: %s. Unlogged extend: EVENT_LOG_MISMATCH, PCR 4. Booted as approved: admitted, and it opens",
		"命令行被改：TPM 不解封，且 BOOT_DIFFERS：%s。未记日志的扩展：EVENT_LOG_MISMATCH，PCR 4。按批准的方式启动：准入并可打开"), strings.TrimSuffix(named, ".")), nil
}

// well boots as approved, and everything opens.
func (d *demo) well() error {
	if err := d.boot(demoCommandLine); err != nil {
		return err
	}
	if err := d.diskKey(); err != nil {
		return err
	}
	return d.disk.Check(d.ctx, d.key, d.volume)
}

func (d *demo) swapped() (string, error) {
	// 1. Another disk that the same key opens: somebody formatted it who once had the key.
	other, err := d.newDisk("other.luks")
	if err != nil {
		return "", err
	}
	if _, err := other.Format(d.ctx, d.key); err != nil {
		return "", err
	}
	if err := other.Check(d.ctx, d.key, d.volume); !errors.Is(err, agent.ErrOtherDisk) {
		return "", fmt.Errorf("another disk was not noticed: %v", err)
	}
	self, err := d.identity(d.adm)
	if err != nil {
		return "", err
	}
	if err := refused(self.RecordVolumeKey(d.ctx, "root", bytes.Repeat([]byte{7}, 32)), "DISK_SWAPPED"); err != nil {
		return "", err
	}
	if err := d.disk.Check(d.ctx, d.key, d.volume); err != nil {
		return "", err
	}
	if err := d.oldState(d.well, d.well); err != nil {
		return "", err
	}
	return d.say("a disk that the same key opens, with another volume key: DISK_SWAPPED before anything on it runs; an old copy of the vTPM, also one made since its last start: STATE_ROLLED_BACK, "+
		"and its key is never handed out again (STATE_WRONG_KEY). The right ones back: all opens",
		"同一密钥可打开、但卷密钥不同的磁盘：在其上任何内容运行之前即 DISK_SWAPPED；vTPM 的旧副本（包括上次启动之后制作的）：STATE_ROLLED_BACK，且其密钥不再发放（STATE_WRONG_KEY）。换回原物：全部可打开"), nil
}

// oldState puts an old copy of the vTPM's state back, and sees it refused. Boots
// before and after must open everything.
func (d *demo) oldState(before, after func() error) error {
	d.powerOff()
	old, oldGeneration := filepath.Join(d.dir, "old"), d.generation
	if err := os.CopyFS(old, os.DirFS(d.stateDir())); err != nil {
		return err
	}
	if err := before(); err != nil {
		return err
	}
	d.powerOff()
	if _, err := d.lend(oldGeneration); refused(err, "STATE_ROLLED_BACK") != nil {
		return refused(err, "STATE_ROLLED_BACK")
	}
	// A host that lies about the generation gets a key that does not open the old file.
	current := d.stateDir() + ".current"
	l, err := d.lend(d.generation)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Rename(d.stateDir(), current), os.Rename(old, d.stateDir())); err != nil {
		return err
	}
	if err := refused(d.take(l), "STATE_WRONG_KEY"); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(d.stateDir()), os.Rename(current, d.stateDir())); err != nil {
		return err
	}
	// Nor is a copy of this generation taken, from before the TPM ran once more.
	if err := d.take(l); err != nil {
		return err
	}
	if err := d.oldCopy(); err != nil {
		return err
	}
	// With the newest, all is well.
	return after()
}

// oldCopy sees a state refused that was written less often than the host said since.
func (d *demo) oldCopy() error {
	state, err := d.state()
	if err != nil {
		return err
	}
	old, err := state.Writes()
	if err != nil {
		return err
	}
	if err := d.run(); err != nil {
		return err
	}
	d.powerOff()
	newest, err := state.Writes()
	if err != nil {
		return err
	}
	told := hosting.Writes{States: []hosting.Written{{VM: demoVM, Lease: d.lease.ID, Writes: newest}}}
	if err := d.host.call(d.ctx, "POST", "/v1/hosts/"+demoHost+"/writes", told, nil); err != nil {
		return err
	}
	_, err = d.lendWritten(d.generation, old)
	return refused(err, "STATE_ROLLED_BACK")
}

func (d *demo) replayed() (string, error) {
	a, err := d.agent(d.guest)
	if err != nil {
		return "", err
	}
	path := "/v1/vms/" + demoVM
	if err := refused(a.Call(d.ctx, "POST", path+"/admission", d.record, nil), "NONCE_USED"); err != nil {
		return "", err
	}
	// The same evidence under a fresh nonce.
	var ch admission.Challenge
	if err := a.Call(d.ctx, "POST", path+"/challenge", admission.AskChallenge{AK: d.record.Items[0].Data}, &ch); err != nil {
		return "", err
	}
	again := d.record
	again.Nonce = ch.Nonce
	if err := refused(a.Call(d.ctx, "POST", path+"/admission", again, nil), "AK_NOT_PROVED"); err != nil {
		return "", err
	}
	// Another VM's credential.
	other, err := d.credential(ca.KindGuest, "web2")
	if err != nil {
		return "", err
	}
	b, err := d.agent(other)
	if err != nil {
		return "", err
	}
	if err := refused(b.Call(d.ctx, "POST", path+"/admission", d.record, nil), "cannot speak for"); err != nil {
		return "", err
	}
	if err := d.well(); err != nil {
		return "", err
	}
	return d.say("the same evidence again: NONCE_USED; under a fresh nonce: AK_NOT_PROVED; from another VM: OTHER_VM. Fresh evidence is admitted",
		"同一证据再次提交：NONCE_USED；换新随机数：AK_NOT_PROVED；来自另一虚拟机：OTHER_VM。新的证据则准入"), nil
}

func (d *demo) revoked() (string, error) {
	if err := d.evidence(); err != nil {
		return "", err
	}
	self, err := d.identity(d.adm)
	if err != nil {
		return "", err
	}
	if err := d.operator.call(d.ctx, "POST", "/v1/vms/"+demoVM+"/revoke", api.RevokeVM{Reason: "the demo is over"}, nil); err != nil {
		return "", err
	}
	if _, err := self.Attest(d.ctx, "root"); refused(err, "revoked") != nil {
		return "", refused(err, "revoked")
	}
	if _, err := d.attest("root"); refused(err, "VM_REVOKED") != nil {
		return "", refused(err, "VM_REVOKED")
	}
	if _, err := d.lend(d.generation); refused(err, "VM_REVOKED") != nil {
		return "", refused(err, "VM_REVOKED")
	}
	return d.say("its certificate is refused at once, no admission, no share, no lease: VM_REVOKED. The host's disk alone opens nothing any more",
		"其证书立即失效；不再准入、不再发放份额与租约：VM_REVOKED。仅凭宿主机的磁盘再也打不开任何东西"), nil
}
