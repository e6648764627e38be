// Command vouchsafe-agent is the guest's side of vouchsafe: it proves the VM to
// its service, keeps its certificate renewed and opens its disk. It is one static
// program for an initramfs; internal/agent does the work.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/chinese"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// version is the release; a package build sets it with -ldflags -X.
var version = "0.1.0-dev"

// Exit codes, as vouchsafe's own.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is one run.
type program struct {
	out, err io.Writer
	sources  agent.Sources
	url      string
	tpmPath  string
	log, ima string
	wait     time.Duration
	zh       bool

	disk, device, name, scratch string
	evidence                    string
	format, force, offline      bool

	given agent.Given
	tpm   *client.Client
}

const usageEN = `usage: vouchsafe-agent COMMAND [FLAGS]

  attest   prove this VM to its service, and print the appraisal
  enroll   attest, and keep the identity certificate (its key stays in the TPM)
  renew    the same with the identity itself, when a third of its life is left
  unlock   attest, and open the disk: --device DEV; the first time, --format
  lock     see to it that no disk opens any more until the next boot
  status   say what this agent was given and what it has
  version  print the version

`

const usageZH = `用法：vouchsafe-agent 命令 [选项]

  attest   向服务证明本虚拟机，并输出评估结果
  enroll   证明自身，并保存身份证书（其密钥不离开 TPM）
  renew    以身份证书自身续期，在其有效期剩余三分之一时进行
  unlock   证明自身，并打开磁盘：--device DEV；首次使用 --format
  lock     在下次启动之前不再打开任何磁盘
  status   显示本代理得到的配置与现有的内容
  version  显示版本

`

// flagDefault is what package flag adds to a flag's usage.
var flagDefault = regexp.MustCompile(`(?m) \(default (.*)\)$`)

// usage says how the program is called.
func (p *program) usage(fs *flag.FlagSet) {
	var flags strings.Builder
	fs.SetOutput(&flags)
	fs.PrintDefaults()
	fs.SetOutput(io.Discard)
	text := flags.String()
	if p.zh {
		text = flagDefault.ReplaceAllString(text, "（默认 $1）")
	}
	io.WriteString(p.err, p.say(usageEN, usageZH)+text)
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	p := &program{out: out, err: errw, zh: strings.HasPrefix(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG")), "zh")}
	fs := flag.NewFlagSet("vouchsafe-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // it speaks English only
	fs.Usage = func() {}
	fs.StringVar(&p.sources.Dir, "credential", "/etc/vouchsafe", p.say("directory with url, ca.pem, cert.pem and key.pem", "含 url、ca.pem、cert.pem 与 key.pem 的目录"))
	fs.StringVar(&p.sources.FwCfg, "fw-cfg", "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vouchsafe", p.say("where QEMU's fw_cfg has the same", "QEMU 的 fw_cfg 中相同内容的位置"))
	fs.StringVar(&p.sources.CommandLine, "command-line", "/proc/cmdline", p.say("file with the kernel's command line; vouchsafe.url= in it counts", "内核命令行文件；其中的 vouchsafe.url= 生效"))
	fs.StringVar(&p.url, "url", "", p.say("https://HOST:PORT of the service", "服务的 https://HOST:PORT"))
	fs.StringVar(&p.tpmPath, "tpm", "/dev/tpmrm0", p.say("the TPM: a device, unix:PATH or tcp:HOST:PORT", "TPM：设备、unix:PATH 或 tcp:HOST:PORT"))
	fs.StringVar(&p.log, "event-log", "/sys/kernel/security/tpm0/binary_bios_measurements", p.say("the firmware's event log", "固件的事件日志"))
	fs.StringVar(&p.ima, "ima", "", p.say("IMA's list, /sys/kernel/security/ima/binary_runtime_measurements, where PCR 10 is part of the policy", "IMA 列表，/sys/kernel/security/ima/binary_runtime_measurements，策略含 PCR 10 时使用"))
	fs.DurationVar(&p.wait, "wait", 2*time.Minute, p.say("how long to wait for the service and for an approval", "等待服务与批准的时长"))
	fs.StringVar(&p.evidence, "evidence", "", p.say("attest, enroll: write what was sent, and what came back, to this file", "attest、enroll：将发送与收到的内容写入此文件"))
	fs.StringVar(&p.disk, "disk", "root", p.say("unlock: the disk's name on record", "unlock：磁盘的登记名称"))
	fs.StringVar(&p.device, "device", "", p.say("unlock: the block device", "unlock：块设备"))
	fs.StringVar(&p.name, "name", "", p.say("unlock: name under /dev/mapper (default: that of the disk)", "unlock：/dev/mapper 下的名称（默认同磁盘名称）"))
	fs.StringVar(&p.scratch, "scratch", "/run", p.say("unlock: directory in memory", "unlock：内存中的目录"))
	fs.BoolVar(&p.format, "format", false, p.say("unlock: format the device when the service has no volume key of it on record; this destroys what is on it", "unlock：若服务未登记其卷密钥，则格式化该设备；会毁掉其上的内容"))
	fs.BoolVar(&p.offline, "offline", false, p.say("unlock: when nobody answers, open the disk without the service, if an operator allowed that", "unlock：无人应答时脱离服务打开磁盘，须经操作员允许"))
	fs.BoolVar(&p.force, "now", false, p.say("renew: even when it is not due", "renew：未到期也续期"))
	commands := map[string]func(context.Context) error{"attest": p.attest, "enroll": p.enroll, "renew": p.renew, "unlock": p.unlock, "lock": p.lock, "status": p.status}
	if len(args) == 0 {
		p.usage(fs)
		return exitUsage
	}
	if args[0] == "version" || args[0] == "--version" {
		if _, err := fmt.Fprintf(out, "vouchsafe-agent %s (%s)\n", version, runtime.Version()); err != nil {
			return p.fail(err)
		}
		return exitDone
	}
	do, ok := commands[args[0]]
	if err := fs.Parse(args[1:]); errors.Is(err, flag.ErrHelp) || args[0] == "-h" || args[0] == "--help" {
		p.usage(fs)
		return exitDone
	} else if err != nil {
		return p.fail(misuse{err})
	}
	switch {
	case !ok:
		return p.fail(p.misused("there is no command %q", "没有命令 %q", args[0]))
	case fs.NArg() > 0:
		return p.fail(p.misused("%q is one word too many", "%q 是多余的参数", fs.Arg(0)))
	case args[0] == "unlock" && p.device == "":
		return p.fail(hinted{p.misused("which device?", "哪个设备？"), "vouchsafe-agent unlock --device /dev/vda2"})
	}
	err := p.prepare(args[0])
	if err == nil {
		err = do(ctx)
		if p.tpm != nil {
			p.tpm.Close()
		}
	}
	if err == nil {
		return exitDone
	}
	return p.fail(err)
}

// misuse is a command line that makes no sense: exit code 2.
type misuse struct{ error }

func (p *program) misused(en, zh string, args ...any) error {
	return misuse{fmt.Errorf(p.say(en, zh), args...)}
}

// Hint is what to type.
func (misuse) Hint() string { return "vouchsafe-agent --help" }

// hinted is an error with a way out.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }
func (e hinted) Hint() string  { return e.hint }

func (p *program) say(en, zh string) string {
	if p.zh {
		return zh
	}
	return en
}

// words is text that was made in English elsewhere, in the person's language.
func (p *program) words(text string) string {
	if p.zh {
		return chinese.Of(text)
	}
	return text
}

// tell says something at the console, under the name of who says it.
func (p *program) tell(en, zh string, args ...any) {
	fmt.Fprintf(p.err, "vouchsafe-agent: "+p.say(en, zh)+"\n", args...)
}

// fail says what went wrong and what to do about it.
func (p *program) fail(err error) int {
	var r *attester.Refused
	code := ""
	if errors.As(err, &r) && r.Code != "" && !strings.Contains(err.Error(), r.Code) {
		code = " (" + r.Code + ")"
	}
	p.tell("%s%s", "%s%s", p.words(err.Error()), p.say(code, fullWidth.Replace(code)))
	var h interface{ Hint() string }
	var tpm noTPM
	var dns *net.DNSError
	var network *net.OpError
	hint := ""
	switch {
	case errors.As(err, &r):
		hint = p.remedy(r)
		if hint == "" && r.Code != "" {
			hint = p.say("an operator can ask why: vouchsafe attest show VM", "运维人员可查看原因：vouchsafe attest show VM")
		}
	case errors.As(err, &tpm):
		hint = p.say("--tpm /dev/tpmrm0, tcp:HOST:PORT or unix:PATH; dmesg | grep -i tpm", "--tpm /dev/tpmrm0、tcp:HOST:PORT 或 unix:PATH；dmesg | grep -i tpm")
	case errors.As(err, &dns):
		hint = p.say("is there a name server in /etc/resolv.conf? An address of numbers needs none", "/etc/resolv.conf 中是否有域名服务器？数字地址则不需要")
	case errors.As(err, &network):
		hint = p.say("does the service run, and has this machine an address and a route to it? ip address; ip route; --wait DURATION waits longer",
			"服务是否在运行？本机是否有地址与路由？ip address；ip route；--wait DURATION 可延长等待")
	case errors.Is(err, agent.ErrNotGiven):
		hint = p.say("an operator makes ca.pem, cert.pem and key.pem: vouchsafe ca credential VM --kind guest -o DIR; url has the service's https://HOST:PORT (or --url); --credential DIR",
			"ca.pem、cert.pem 与 key.pem 由运维人员制作：vouchsafe ca credential VM --kind guest -o DIR；url 内为服务的 https://HOST:PORT（或用 --url）；--credential DIR")
	case errors.Is(err, agent.ErrLocked):
		hint = p.say("reboot", "请重启")
	case errors.As(err, &h):
		hint = p.words(h.Hint())
	}
	if hint != "" {
		fmt.Fprintf(p.err, "%s%s\n", p.say("hint: ", "提示："), hint)
	}
	var m misuse
	if errors.As(err, &m) {
		return exitUsage
	}
	return exitFailed
}

func (p *program) prepare(command string) (err error) {
	if command != "lock" { // which speaks to the TPM alone
		if p.given, err = p.sources.Load(p.url); err != nil {
			return err
		}
	}
	if p.tpm, err = client.Open(p.tpmPath); err != nil && command != "status" {
		return noTPM{err}
	}
	return nil
}

// noTPM is a TPM that does not open. It may be one behind a socket: its network
// is not the service's.
type noTPM struct{ error }

func (e noTPM) Unwrap() error { return e.error }

func (p *program) agent() (*agent.Agent, error) {
	c := agent.Config{Service: attester.Service{URL: p.given.URL, Root: p.given.Root, Client: p.given.Client}, TPM: p.tpm,
		EventLog: func() ([]byte, error) { return os.ReadFile(p.log) }}
	if p.ima != "" {
		c.IMALog = func() ([]byte, error) { return os.ReadFile(p.ima) }
	}
	return agent.New(c)
}

// fullWidth is how a code is put in brackets in Chinese.
var fullWidth = strings.NewReplacer(" (", "（", ")", "）")

// remedy is the hint of a refusal in the person's language: the remedy of its code.
func (p *program) remedy(r *attester.Refused) string {
	for _, e := range attest.Findings {
		if p.zh && e.Remedy.EN == r.Hint {
			return e.Remedy.ZH
		}
	}
	return p.words(r.Hint)
}

// prove attests, and waits for the service as long as it may.
func (p *program) prove(ctx context.Context, a *agent.Agent, disk string) (adm *agent.Admission, err error) {
	p.tell("proving this boot of %s to %s; giving up in %v", "向 %[2]s 证明 %[1]s 的这次启动；%[3]v 后放弃", a.VM, a.URL, p.wait)
	before := ""
	err = agent.Wait(ctx, p.wait, func(why error, left time.Duration) {
		if why.Error() == before {
			p.tell("still waiting, %v left", "仍在等待，还剩 %v", left)
			return
		}
		before = why.Error()
		p.tell("waiting, %v left: %s", "等待中，还剩 %v：%s", left, p.words(why.Error()))
		var r *attester.Refused
		if errors.As(why, &r) && r.Code == "REFERENCE_MISSING" {
			p.tell("an operator can approve this boot: vouchsafe policy enroll %s", "运维人员可批准这次启动：vouchsafe policy enroll %s", a.VM)
		}
	}, func(ctx context.Context) error {
		adm, err = a.Attest(ctx, disk)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.tell("%s is admitted, tier %s", "%s 已准入，级别 %s", a.VM, adm.Tier)
	if err := p.saveEvidence(adm); err != nil {
		adm.Close()
		return nil, err
	}
	return adm, nil
}

// saveEvidence keeps an admission for people who want to look at it. The shares of
// a disk key are no part of it.
func (p *program) saveEvidence(adm *agent.Admission) error {
	if p.evidence == "" {
		return nil
	}
	shown := adm.Admitted
	shown.Share = nil
	data, err := json.Marshal(struct {
		Request  admission.Request  `json:"request"`
		Admitted admission.Admitted `json:"admitted"`
	}{adm.Request, shown})
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.evidence, data, 0o600); err != nil {
		return fmt.Errorf("writing the evidence: %w", err)
	}
	return nil
}

func (p *program) attest(ctx context.Context) error {
	a, err := p.agent()
	if err != nil {
		return err
	}
	adm, err := p.prove(ctx, a, "")
	if err != nil {
		return err
	}
	defer adm.Close()
	_, err = fmt.Fprintf(p.out, "%s\n", adm.Result)
	return err
}

func (p *program) enroll(ctx context.Context) error {
	a, err := p.agent()
	if err != nil {
		return err
	}
	return p.keep(ctx, a)
}

func (p *program) keep(ctx context.Context, a *agent.Agent) error {
	adm, err := p.prove(ctx, a, "")
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := agent.SaveIdentity(p.sources.Dir, adm); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	p.tell("%s has an identity until %s", "%s 的身份证书有效至 %s", a.VM, adm.Chain[0].NotAfter.UTC().Format(time.RFC3339))
	return nil
}

func (p *program) renew(ctx context.Context) error {
	if len(p.given.Identity) == 0 {
		return hinted{errors.New(p.say("there is no identity to renew", "没有可续期的身份证书")), "vouchsafe-agent enroll"}
	}
	leaf := p.given.Identity[0]
	if left := time.Until(leaf.NotAfter); !p.force && left > leaf.NotAfter.Sub(leaf.NotBefore)/3 {
		p.tell("nothing to do: good until %s (--now renews it all the same)", "无需续期：有效至 %s（--now 可强制续期）", leaf.NotAfter.UTC().Format(time.RFC3339))
		return nil
	}
	credential, key, err := agent.IdentityCredential(p.tpm, p.given.Identity)
	if err != nil {
		return err
	}
	defer p.tpm.Flush(key.Handle)
	if time.Now().Before(leaf.NotAfter) {
		p.given.Client = credential
	} // else: the first credential, as at the first time
	a, err := p.agent()
	if err != nil {
		return err
	}
	return p.keep(ctx, a)
}

func (p *program) unlock(ctx context.Context) error {
	if p.name == "" {
		p.name = p.disk
	}
	a, err := p.agent()
	if err != nil {
		return err
	}
	adm, err := p.prove(ctx, a, p.disk)
	if p.offline && agent.Unreachable(err) {
		return p.unlockOffline(ctx, a, err)
	}
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := p.fits(ctx, adm); err != nil {
		return err // this boot still has its key before it
	}
	key, err := a.DiskKey(adm, p.disk)
	if err != nil {
		return err
	}
	defer key.Erase()
	// Whatever comes of it: the key was had in this boot.
	return errors.Join(p.open(ctx, adm, key), a.Lock())
}

// fits says whether what was asked for fits the device and the record, before
// the key is had: a forgotten flag must not cost a boot.
func (p *program) fits(ctx context.Context, adm *agent.Admission) error {
	if _, err := os.Stat(p.device); err != nil {
		return hinted{fmt.Errorf("looking at the device: %w", err), "lsblk; --device /dev/vda2"}
	}
	if len(adm.VolumeKey) > 0 {
		return nil
	}
	again := fmt.Sprintf("vouchsafe-agent unlock --device %s --disk %s --format", p.device, p.disk)
	if !p.format {
		return hinted{fmt.Errorf(p.say("the service has no volume key of disk %s on record: this is its first opening", "服务尚未登记磁盘 %s 的卷密钥：这是首次打开"), p.disk),
			fmt.Sprintf(p.say("%s makes one, and destroys what is on %s", "%s 会生成卷密钥，并销毁 %s 上的内容"), again, p.device)}
	}
	volume := agent.LUKS{Device: p.device, Scratch: p.scratch}
	if there, err := volume.Formatted(ctx); err != nil {
		return err
	} else if there {
		return hinted{fmt.Errorf(p.say("%s is a LUKS volume already, and not one that the service knows", "%s 已是 LUKS 卷，但服务不认识它"), p.device),
			fmt.Sprintf(p.say("if it may go: wipefs -a %s; then %s", "若可以舍弃：wipefs -a %s；然后 %s"), p.device, again)}
	}
	return nil
}

// lock is for a boot that goes on without its disk: whoever gets its console must
// not get the disk, too.
func (p *program) lock(context.Context) error {
	if err := (&agent.Agent{Config: agent.Config{TPM: p.tpm}}).Lock(); err != nil {
		return err
	}
	p.tell("no disk opens any more until the next boot", "下次启动之前不再打开任何磁盘")
	return nil
}

// unlockOffline opens the disk with what the TPM keeps for that.
func (p *program) unlockOffline(ctx context.Context, a *agent.Agent, why error) error {
	p.tell("nobody answers (%s); opening the disk without the service", "无人应答（%s）；脱离服务打开磁盘", p.words(why.Error()))
	k, err := a.OfflineDiskKey(p.disk)
	if err != nil {
		return err
	}
	defer k.Key.Erase()
	p.tell("left without the service: boots %d, running time %v", "脱离服务还可启动 %d 次、运行 %v", k.Boots, k.For.Round(time.Second))
	volume := agent.LUKS{Device: p.device, Scratch: p.scratch}
	err = volume.Open(ctx, k.Key, k.VolumeKey, p.name)
	if err == nil {
		p.tell("%s is open as /dev/mapper/%s", "%s 已打开为 /dev/mapper/%s", p.device, p.name)
	}
	// Whatever comes of it: the key was had in this boot.
	return errors.Join(err, a.Lock())
}

// open opens the disk; one that has no volume key on record is formatted before.
func (p *program) open(ctx context.Context, adm *agent.Admission, key secret.Bytes) (err error) {
	volume := agent.LUKS{Device: p.device, Scratch: p.scratch}
	want := adm.VolumeKey
	if len(want) == 0 {
		p.tell("formatting %s: the service has no volume key of disk %s on record yet", "格式化 %s：服务尚未登记磁盘 %s 的卷密钥", p.device, p.disk)
		if want, err = volume.Format(ctx, key); err != nil {
			return err
		}
		if p.given.Client, err = adm.TLS(); err != nil {
			return err
		}
		self, err := p.agent()
		if err != nil {
			return err
		}
		if err := self.RecordVolumeKey(ctx, p.disk, want); err != nil {
			return err
		}
	}
	if err := volume.Open(ctx, key, want, p.name); err != nil {
		return err
	}
	p.tell("%s is open as /dev/mapper/%s", "%s 已打开为 /dev/mapper/%s", p.device, p.name)
	return nil
}

func (p *program) status(context.Context) error {
	a, err := p.agent()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, p.say("vm        %s\ntenant    %s\nservice   %s\nca        %s, until %s\n", "虚拟机    %s\n租户      %s\n服务      %s\nCA        %s，有效期至 %s\n"), a.VM, a.Tenant, a.URL, p.given.Root.Subject.CommonName, p.given.Root.NotAfter.UTC().Format(time.DateOnly))
	tpm := p.say("none at ", "不存在：") + p.tpmPath
	if p.tpm != nil {
		tpm = p.tpmPath
	}
	fmt.Fprintf(p.out, p.say("tpm       %s\n", "TPM       %s\n"), tpm)
	if p.tpm != nil {
		disks := p.say("can be opened in this boot", "本次启动可以打开")
		if locked, err := a.Locked(); err != nil {
			return err
		} else if locked {
			disks = p.say("none opens any more until the next boot", "下次启动之前不再打开")
		}
		fmt.Fprintf(p.out, p.say("disks     %s\n", "磁盘      %s\n"), disks)
	}
	identity := p.say("none yet: vouchsafe-agent enroll", "尚无：vouchsafe-agent enroll")
	if len(p.given.Identity) > 0 {
		identity = p.given.Identity[0].NotAfter.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(p.out, p.say("identity  %s\n", "身份证书  %s\n"), identity)
	return nil
}
