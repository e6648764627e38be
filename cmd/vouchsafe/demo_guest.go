package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// guestDemo is the demo with a real kernel: the guest is a QEMU machine with OVMF, and
// vouchsafe-agent in its initramfs. demo_guest_init.sh is what runs in there.
type guestDemo struct {
	*demo
	parts     *guestParts
	content   tree   // of the initramfs
	variables string // the firmware's variable store
	boots     int
	running   *guestMachine

	letter   string // written in the first boot, read in every later one
	initrd   []byte
	cmdline  string
	rootDisk string // of the VM
}

// guestCommandLine is the golden boot's.
const guestCommandLine = "console=ttyS0 quiet panic=-1"

func newGuestDemo(d *demo, p *guestParts, agent string) (*guestDemo, error) {
	g := &guestDemo{demo: d, parts: p, cmdline: guestCommandLine, variables: filepath.Join(d.dir, "OVMF_VARS.fd"), rootDisk: filepath.Join(d.dir, "disk.luks")}
	d.activate = []string{"sha256"} // as swtpm_setup does; Debian's IMA complains of SHA-384 and SHA-512
	agent, err := findAgent(d.ctx, agent, d.dir)
	if err != nil {
		return nil, err
	}
	if g.content, err = guestTree(p, agent); err != nil {
		return nil, fmt.Errorf("making the initramfs: %w", err)
	}
	g.initrd = g.content.pack()
	vars, err := os.ReadFile(p.variables)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 16)
	rand.Read(random)
	g.letter = "dear next boot, remember " + hex.EncodeToString(random)
	return g, errors.Join(os.WriteFile(g.variables, vars, 0o600), emptyDisk(g.rootDisk))
}

// guestDiskSize is for a LUKS2 header of 4 MiB and a small file system. The file is sparse.
const guestDiskSize = 16 << 20

func emptyDisk(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(guestDiskSize), f.Close())
}

// steps are the story of demo --guest, in order.
func (g *guestDemo) steps() []demoStep {
	step := func(name, en, zh string, do func() (string, error)) demoStep {
		return demoStep{name, en, zh, func(*demo) (string, error) { return do() }}
	}
	return []demoStep{
		step("born", "a vTPM is made, certified, and leased to its host", "制造 vTPM，签发证书，并租借给宿主机", g.bornWithCredential),
		step("boot", "a real kernel boots under OVMF and measures itself", "真实内核经 OVMF 启动并度量自身", g.firstBoot),
		step("attest", "the agent in the initramfs waits for an approval, and is admitted", "initramfs 中的代理等待批准并获准入", g.approved),
		step("certificate", "it has an identity", "取得身份证书", g.hasIdentity),
		step("disk-key", "the first admission formats the disk and opens it", "首次准入格式化并打开磁盘", g.formatted),
		step("reboot", "the second boot opens it by itself, once", "第二次启动自行打开磁盘，且仅一次", g.rebooted),
		step("tamper-refused", "with a changed command line it stays shut", "命令行被改则保持关闭", g.otherCommandLine),
		step("swap-refused", "with a swapped disk it stays shut", "磁盘被调换则保持关闭", g.otherDisk),
		step("snapshot-refused", "with an old copy of the vTPM it stays shut", "vTPM 为旧副本则保持关闭", g.oldSnapshot),
		step("propose", "an update is approved before the reboot", "更新在重启之前获批准", g.proposed),
		step("revoked-refused", "a revoked VM is refused", "被吊销的虚拟机遭拒绝", g.revokedBoot),
	}
}

// cli runs a command of this program against the demo's service, as an operator
// would type it, and reads what it prints with --json.
func (g *guestDemo) cli(out any, args ...string) error {
	var b, words bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &b, err: &words, langFlag: g.app.langFlag}
	root := newRoot(a)
	root.SetArgs(append(args, "--json", "--state", filepath.Join(g.dir, "service")))
	if err := root.ExecuteContext(g.ctx); err != nil {
		return fmt.Errorf("vouchsafe %s: %w", strings.Join(args[:2], " "), err)
	}
	return json.Unmarshal(b.Bytes(), out)
}

func (g *guestDemo) bornWithCredential() (string, error) {
	detail, err := g.born()
	if err != nil {
		return "", err
	}
	g.powerOff()
	return detail, g.giveCredential()
}

func (g *guestDemo) firstBoot() (string, error) {
	begin := time.Now()
	var err error
	g.running, err = g.start(guestBoot{name: "first", initrd: g.initrd, cmdline: g.cmdline, disk: g.rootDisk, task: "first", give: map[string]string{"letter": g.letter}})
	if err != nil {
		return "", err
	}
	version, err := g.up()
	if err != nil {
		return "", err
	}
	took := time.Since(begin)
	if !bytes.Equal(g.content.pack(), g.initrd) {
		return "", errors.New("the initramfs is another one each time it is made")
	}
	log, err := eventlog.Parse(g.log)
	if err != nil {
		return "", err
	}
	how := "TCG"
	if g.parts.kvm {
		how = "KVM"
	}
	return fmt.Sprintf(g.say("Linux %s, userland after %.1f s (%s); %d events in its log; initramfs of %.1f MB, the same bytes each time it is made, SHA-256 %x",
		"Linux %s，%.1f 秒后进入用户空间（%s）；日志含 %d 个事件；initramfs %.1f MB，每次构建字节相同，SHA-256 %x"),
		version, took.Seconds(), how, len(log.Events), float64(len(g.initrd))/1e6, sha256.Sum256(g.initrd)), nil
}

// up waits for the guest's userland, and takes its event log.
func (g *guestDemo) up() (version string, err error) {
	said, err := g.running.wait(g.ctx, "up")
	if err != nil {
		return "", err
	}
	version, text, ok := strings.Cut(said, " log ")
	if !ok {
		return "", errors.New("the guest has no event log")
	}
	g.log, err = base64.StdEncoding.DecodeString(text)
	return version, err
}

func (g *guestDemo) approved() (string, error) {
	m := g.running
	asked, err := m.hear(g.ctx, "vouchsafe policy enroll "+demoVM)
	if err != nil {
		return "", err
	}
	var p api.Policy
	if err := g.cli(&p, "policy", "enroll", demoVM, "--note", "golden boot"); err != nil {
		return "", err
	}
	if err := g.sameAs(p); err != nil {
		return "", err
	}
	admitted, err := m.hear(g.ctx, "is admitted")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(g.say("the agent says at the console: %q; policy enroll; then: %q", "代理在控制台提示：%q；执行 policy enroll 后：%q"), asked, admitted), nil
}

// sameAs compares the approved PCRs with the log that the guest showed on its own port.
func (g *guestDemo) sameAs(p api.Policy) error {
	log, err := eventlog.Parse(g.log)
	if err != nil {
		return err
	}
	bank, err := eventlog.ParseAlg(p.Bank)
	if err != nil {
		return err
	}
	values, err := log.Replay(bank)
	if err != nil {
		return err
	}
	for _, pcr := range attest.BootPCRs() {
		if got := p.PCRs[fmt.Sprint(pcr)]; got != hex.EncodeToString(values.PCR[pcr]) {
			return fmt.Errorf("PCR %d was approved as %s, and the guest's log leads to %x", pcr, got, values.PCR[pcr])
		}
	}
	return nil
}

func (g *guestDemo) hasIdentity() (string, error) {
	leaf, err := g.certificate()
	if err != nil {
		return "", err
	}
	text, err := g.running.wait(g.ctx, "evidence")
	if err != nil {
		return "", err
	}
	if err := g.readEvidence(text); err != nil {
		return "", fmt.Errorf("reading the guest's evidence: %w", err)
	}
	name, err := ca.NameOf(leaf)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(g.say("%s, until %s, for a key that cannot leave the vTPM; good under the VM identity CA", "%s，有效至 %s，私钥不能离开 vTPM；在 VM 身份 CA 之下有效"),
		name, leaf.NotAfter.UTC().Format(time.RFC3339)), nil
}

// certificate waits for an identity of the guest, and checks it.
func (g *guestDemo) certificate() (*x509.Certificate, error) {
	text, err := g.running.wait(g.ctx, "certificate")
	if err != nil {
		return nil, err
	}
	chain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	leaf, err := parseCertificate(chain)
	if err != nil {
		return nil, err
	}
	issuer, err := g.intermediate(ca.VMIdentity)
	if err != nil {
		return nil, err
	}
	return leaf, ca.Verify(leaf, issuer, g.demo.root, time.Now(), x509.ExtKeyUsageClientAuth)
}

// readEvidence takes what the agent in the guest sent and got, for --keep.
func (g *guestDemo) readEvidence(text string) error {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	var e struct {
		Request  admission.Request  `json:"request"`
		Admitted admission.Admitted `json:"admitted"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	adm := &agent.Admission{Admitted: e.Admitted, Request: e.Request}
	for _, it := range e.Request.Items {
		switch it.Type {
		case admission.AttestationKey:
			if err := tpm2.Unmarshal(it.Data, &adm.AK); err != nil {
				return err
			}
		case attest.TPMQuote:
			var a tpm2.TPMSAttest
			dec := tpm2.NewDecoder(it.Data)
			if err := tpm2.Unmarshal(dec.Buf(1024), &a); err != nil {
				return err
			}
			adm.Signed = a.ExtraData
		}
	}
	for rest := []byte(e.Admitted.Certificate); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return err
		}
		adm.Chain = append(adm.Chain, c)
	}
	if len(adm.Chain) == 0 {
		return errors.New("there is no certificate in it")
	}
	g.adm, g.record = adm, e.Request
	return nil
}

func (g *guestDemo) formatted() (string, error) {
	m := g.running
	opened, err := m.wait(g.ctx, "open")
	if err != nil {
		return "", err
	}
	if err := g.finish(m); err != nil {
		return "", err
	}
	// What the guest wrote is on this machine's disk, and unreadable.
	raw, err := os.ReadFile(g.rootDisk)
	if err != nil {
		return "", err
	}
	if bytes.Contains(raw, []byte(g.letter)) {
		return "", errors.New("the guest's file is on the disk in clear")
	}
	if !bytes.Contains(raw[:4096], []byte("LUKS\xba\xbe\x00\x02")) {
		return "", errors.New("there is no LUKS2 header on the disk")
	}
	return fmt.Sprintf(g.say("LUKS2 on virtio-blk through device-mapper (%s); a file system and a letter in it, of which the host's file shows nothing", "virtio-blk 上的 LUKS2，经 device-mapper 打开（%s）；其中建立文件系统并写入一封信，宿主机的文件中看不到其内容"), strings.TrimSpace(opened)), nil
}

// finish waits until the guest has read its letter and switched itself off.
func (g *guestDemo) finish(m *guestMachine) error {
	if letter, err := m.wait(g.ctx, "letter"); err != nil {
		return err
	} else if letter != g.letter {
		return fmt.Errorf("the letter on the disk reads %q", letter)
	}
	if _, err := m.wait(g.ctx, "done"); err != nil {
		return err
	}
	return m.stop()
}

// well is a boot as approved, in which everything opens.
func (g *guestDemo) well(name, task string) error {
	var err error
	if g.running, err = g.start(guestBoot{name: name, initrd: g.initrd, cmdline: g.cmdline, disk: g.rootDisk, task: task}); err != nil {
		return err
	}
	if _, err := g.up(); err != nil {
		return err
	}
	if _, err := g.running.wait(g.ctx, "open"); err != nil {
		return err
	}
	if task == "again" {
		return nil
	}
	return g.finish(g.running)
}

func (g *guestDemo) rebooted() (string, error) {
	if err := g.well("again", "again"); err != nil {
		return "", err
	}
	m := g.running
	if letter, err := m.wait(g.ctx, "letter"); err != nil || letter != g.letter {
		return "", errors.Join(err, fmt.Errorf("the letter on the disk reads %q", letter))
	}
	if _, err := g.certificate(); err != nil {
		return "", err
	}
	m.said = nil
	if _, err := m.wait(g.ctx, "twice"); err != nil {
		return "", err
	}
	twice := strings.Join(m.said, " ")
	if err := refused(errors.New(twice), "PCR 15 was extended"); err != nil {
		return "", err
	}
	if _, err := m.wait(g.ctx, "done"); err != nil {
		return "", err
	}
	return g.say("opened without a word from anybody, the letter reads the same; its identity renewed itself; opening it again in the same boot: refused by the TPM, for PCR 15 was extended",
		"无需人工即打开，信件内容一致；身份证书自行续期；同一次启动内再次打开：TPM 拒绝，因为 PCR 15 已被扩展"), m.stop()
}

// shut boots, wants the agent to refuse with a code, and returns its words.
func (g *guestDemo) shut(b guestBoot, code string) (string, error) {
	m, err := g.start(b)
	if err != nil {
		return "", err
	}
	g.running = m
	if _, err := g.up(); err != nil {
		return "", err
	}
	_, err = m.wait(g.ctx, "open")
	if err := refused(err, code); err != nil {
		return "", err
	}
	if err := refused(err, "no disk opens any more"); err != nil {
		return "", err
	}
	i := slices.IndexFunc(m.said, func(line string) bool { return strings.Contains(line, code) })
	return strings.TrimPrefix(m.said[i], "vouchsafe-agent: "), m.stop()
}

func (g *guestDemo) otherCommandLine() (string, error) {
	said, err := g.shut(guestBoot{name: "tampered", initrd: g.initrd, cmdline: g.cmdline + " init=/bin/sh", disk: g.rootDisk}, "BOOT_DIFFERS")
	if err != nil {
		return "", err
	}
	if err := refused(errors.New(said), "PCR 9"); err != nil {
		return "", err
	}
	if err := g.well("untampered", ""); err != nil {
		return "", err
	}
	return fmt.Sprintf(g.say("the console says: %q. With the old command line: admitted, and it opens", "控制台显示：%q。恢复原命令行：准入并打开"), said), nil
}

// asHost gets the disk key as whoever owns the host can: it extends the guest's log into
// the vTPM that it runs. THREATS.md says so; here it makes a disk that the key opens.
func (g *guestDemo) asHost() error {
	if err := g.powerOn(); err != nil {
		return err
	}
	log, err := eventlog.Parse(g.log)
	if err != nil {
		return err
	}
	if err := extendAll(g.tpm, log); err != nil {
		return err
	}
	kept, record := g.adm, g.record
	g.adm = nil
	err = g.diskKey()
	g.adm, g.record = kept, record
	g.powerOff()
	return err
}

func (g *guestDemo) otherDisk() (string, error) {
	if err := g.asHost(); err != nil {
		return "", err
	}
	disk := agent.LUKS{Device: g.rootDisk, Scratch: g.dir}
	if err := disk.Check(g.ctx, g.key, g.volume); err != nil {
		return "", err
	}
	other := agent.LUKS{Device: filepath.Join(g.dir, "other.luks"), Scratch: g.dir}
	if err := emptyDisk(other.Device); err != nil {
		return "", err
	}
	if _, err := other.Format(g.ctx, g.key); err != nil {
		return "", err
	}
	said, err := g.shut(guestBoot{name: "swapped", initrd: g.initrd, cmdline: g.cmdline, disk: other.Device}, "DISK_SWAPPED")
	if err != nil {
		return "", err
	}
	if err := g.well("own-disk", ""); err != nil {
		return "", err
	}
	return fmt.Sprintf(g.say("a disk that the same key opens, made by somebody who owns the host; the console says: %q. With its own disk: it opens", "由控制宿主机者制作、同一密钥可打开的磁盘；控制台显示：%q。换回原盘：打开"), said), nil
}

func (g *guestDemo) oldSnapshot() (string, error) {
	err := g.oldState(g.asHost, func() error { return g.well("newest-state", "") })
	if err != nil {
		return "", err
	}
	return g.say("STATE_ROLLED_BACK: no lease, so the machine is not even switched on; to a host that lies about it the vTPM's file does not open (STATE_WRONG_KEY). With the newest state: it opens",
		"STATE_ROLLED_BACK：没有租约，机器不会启动；对谎报的宿主机，vTPM 文件打不开（STATE_WRONG_KEY）。换回最新状态：打开"), nil
}

func (g *guestDemo) proposed() (string, error) {
	// An update: another initramfs, another command line, the same kernel package.
	content := maps.Clone(g.content)
	content["etc/release"] = treeFile{0o644, []byte("the second initramfs of this guest\n")}
	initrd, cmdline := content.pack(), g.cmdline+" loglevel=4"
	file := filepath.Join(g.dir, "initrd.new")
	if err := os.WriteFile(file, initrd, 0o600); err != nil {
		return "", err
	}
	var p api.Policy
	if err := g.cli(&p, "policy", "propose", demoVM, "--kernel", g.parts.kernel, "--initrd", file, "--cmdline", cmdline, "--memory", guestMemory, "--note", "update", "--approve"); err != nil {
		return "", err
	}
	if !p.Approved {
		return "", errors.New("the proposal was not approved")
	}
	g.initrd, g.cmdline = initrd, cmdline
	if err := g.well("proposed", ""); err != nil {
		return "", err
	}
	if err := g.sameAs(p); err != nil {
		return "", err
	}
	return fmt.Sprintf(g.say("policy propose --approve computed version %d (%s); the next boot had these very PCRs, was admitted at once, and opened", "policy propose --approve 计算出版本 %d（%s）；下一次启动的 PCR 与之完全一致，立即准入并打开"),
		p.Version, strings.Join(p.Changes, "; ")), nil
}

func (g *guestDemo) revokedBoot() (string, error) {
	// The evidence is the first boot's, as the agent in the guest sent it.
	for _, it := range g.record.Items {
		if it.Type == attest.TCGEventLog {
			g.log = it.Data
		}
	}
	if err := g.evidence(); err != nil {
		return "", err
	}
	if err := g.keepBoots(); err != nil {
		return "", err
	}
	if err := g.operator.call(g.ctx, "POST", "/v1/vms/"+demoVM+"/revoke", api.RevokeVM{Reason: "the demo is over"}, nil); err != nil {
		return "", err
	}
	_, err := g.start(guestBoot{name: "revoked", initrd: g.initrd, cmdline: g.cmdline, disk: g.rootDisk})
	if err := refused(err, "VM_REVOKED"); err != nil {
		return "", err
	}
	return g.say("VM_REVOKED: no lease, so its vTPM opens nowhere and the machine is not switched on", "VM_REVOKED：没有租约，其 vTPM 在任何地方都打不开，机器不会启动"), nil
}

// keepBoots leaves what was on the console of each boot, and the first one's initramfs.
func (g *guestDemo) keepBoots() error {
	if g.keep == "" {
		return nil
	}
	for i := range g.boots {
		files, err := filepath.Glob(filepath.Join(g.dir, fmt.Sprintf("console-%d-*.txt", i+1)))
		if err != nil || len(files) != 1 {
			return errors.Join(err, fmt.Errorf("internal error: boot %d has %d consoles", i+1, len(files)))
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(g.keep, filepath.Base(files[0])), bytes.ReplaceAll(data, []byte("\r"), nil), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(g.keep, "initrd"), g.content.pack(), 0o600)
}
