// Command vouchsafe-agent is the guest's side of vouchsafe: it proves the VM to
// its service, keeps its certificate renewed and opens its disk. It is one static
// program for an initramfs; internal/agent does the work.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

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

const usage = `usage: vouchsafe-agent COMMAND [FLAGS]

  attest   prove this VM to its service, and print the appraisal
  enroll   attest, and keep the identity certificate (its key stays in the TPM)
  renew    the same with the identity itself, when a third of its life is left
  unlock   attest, and open the disk: --device DEV; the first time, --format
  lock     see to it that no disk opens any more until the next boot
  status   say what this agent was given and what it has

`

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	p := &program{out: out, err: errw, zh: strings.HasPrefix(os.Getenv("LANG"), "zh")}
	fs := flag.NewFlagSet("vouchsafe-agent", flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.Usage = func() { fmt.Fprint(errw, usage); fs.PrintDefaults() }
	fs.StringVar(&p.sources.Dir, "credential", "/etc/vouchsafe", "directory with url, ca.pem, cert.pem and key.pem")
	fs.StringVar(&p.sources.FwCfg, "fw-cfg", "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vouchsafe", "where QEMU's fw_cfg has the same")
	fs.StringVar(&p.sources.CommandLine, "command-line", "/proc/cmdline", "file with the kernel's command line; vouchsafe.url= in it counts")
	fs.StringVar(&p.url, "url", "", "https://HOST:PORT of the service")
	fs.StringVar(&p.tpmPath, "tpm", "/dev/tpmrm0", "the TPM: a device, unix:PATH or tcp:HOST:PORT")
	fs.StringVar(&p.log, "event-log", "/sys/kernel/security/tpm0/binary_bios_measurements", "the firmware's event log")
	fs.StringVar(&p.ima, "ima", "", "IMA's list, /sys/kernel/security/ima/binary_runtime_measurements, where PCR 10 is part of the policy")
	fs.DurationVar(&p.wait, "wait", 2*time.Minute, "how long to wait for the service and for an approval")
	fs.StringVar(&p.evidence, "evidence", "", "attest, enroll: write what was sent, and what came back, to this file")
	fs.StringVar(&p.disk, "disk", "root", "unlock: the disk's name on record")
	fs.StringVar(&p.device, "device", "", "unlock: the block device")
	fs.StringVar(&p.name, "name", "", "unlock: name under /dev/mapper (default: that of the disk)")
	fs.StringVar(&p.scratch, "scratch", "/run", "unlock: directory in memory")
	fs.BoolVar(&p.format, "format", false, "unlock: format the device when the service has no volume key of it on record; this destroys what is on it")
	fs.BoolVar(&p.offline, "offline", false, "unlock: when nobody answers, open the disk without the service, if an operator allowed that")
	fs.BoolVar(&p.force, "now", false, "renew: even when it is not due")
	commands := map[string]func(context.Context) error{"attest": p.attest, "enroll": p.enroll, "renew": p.renew, "unlock": p.unlock, "lock": p.lock, "status": p.status}
	if len(args) == 0 {
		fs.Usage()
		return exitUsage
	}
	do, ok := commands[args[0]]
	if err := fs.Parse(args[1:]); errors.Is(err, flag.ErrHelp) || args[0] == "-h" || args[0] == "--help" {
		if args[0] != "-h" && args[0] != "--help" {
			return exitDone
		}
		fs.Usage()
		return exitDone
	} else if err != nil {
		return exitUsage
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
	p.tell("%v%s", "%v%s", err, code)
	var h interface{ Hint() string }
	var tpm noTPM
	var dns *net.DNSError
	var network *net.OpError
	hint := ""
	switch {
	case errors.As(err, &r):
		hint = r.Hint
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
		hint = h.Hint()
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
		p.tell("waiting, %v left: %v", "等待中，还剩 %v：%v", left, why)
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
	p.tell("nobody answers (%v); opening the disk without the service", "无人应答（%v）；不经服务打开磁盘", why)
	k, err := a.OfflineDiskKey(p.disk)
	if err != nil {
		return err
	}
	defer k.Key.Erase()
	p.tell("left without the service: boots %d, running time %v", "不经服务还可启动 %d 次、运行 %v", k.Boots, k.For.Round(time.Second))
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
	fmt.Fprintf(p.out, "vm        %s\ntenant    %s\nservice   %s\nca        %s, until %s\n", a.VM, a.Tenant, a.URL, p.given.Root.Subject.CommonName, p.given.Root.NotAfter.UTC().Format(time.DateOnly))
	tpm := p.say("none at ", "不存在：") + p.tpmPath
	if p.tpm != nil {
		tpm = p.tpmPath
	}
	fmt.Fprintf(p.out, "tpm       %s\n", tpm)
	if p.tpm != nil {
		disks := p.say("can be opened in this boot", "本次启动可以打开")
		if locked, err := a.Locked(); err != nil {
			return err
		} else if locked {
			disks = p.say("none opens any more until the next boot", "下次启动之前不再打开")
		}
		fmt.Fprintf(p.out, "disks     %s\n", disks)
	}
	identity := p.say("none yet: vouchsafe-agent enroll", "尚无：vouchsafe-agent enroll")
	if len(p.given.Identity) > 0 {
		identity = p.given.Identity[0].NotAfter.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(p.out, "identity  %s\n", identity)
	return nil
}
