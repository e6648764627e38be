package eventlog

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Findings is what [Log.Check] and [ComparePCRs] can report; docs/findings/eventlog.md has an entry for each.
var Findings = finding.Catalog{
	{
		Code: "EVENT_DIGEST_MISMATCH", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "Event {0} must carry the hash of its own data and does not. The data or the digest was changed after the event was made; the PCR saw the digest, so the text is the likelier lie.",
			ZH: "事件 {0} 的摘要必须是其数据的哈希，但不是。事件生成之后数据或摘要被改过；PCR 扩展的是摘要，因此更可能被改的是文本。",
		},
		Remedy: finding.Text{
			EN: "Fetch the log again from the machine (/sys/kernel/security/tpm0/binary_bios_measurements) and compare; if it stays, do not trust this boot.",
			ZH: "从机器上重新读取日志（/sys/kernel/security/tpm0/binary_bios_measurements）并比较；若仍不一致，不要信任这次启动。",
		},
	},
	{
		Code: "EVENT_LOG_MISMATCH", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The log does not lead to the value of PCR {0}. Something was extended that is not in the log, or the log was changed: the log does not tell what happened in this boot.",
			ZH: "按日志重放得不到 PCR {0} 的值：有扩展未写入日志，或日志被改过。日志没有说明这次启动发生了什么。",
		},
		Remedy: finding.Text{
			EN: "Make sure that log and PCRs are of the same boot. If they are, find what extends PCR {0} without logging, or treat the machine as tampered with.",
			ZH: "确认日志与 PCR 来自同一次启动。若是，找出谁扩展了 PCR {0} 却不记日志，否则按被篡改处理。",
		},
	},
	{
		Code: "EVENT_SEPARATOR_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "PCR {0} has no separator. Firmware must close PCRs 0 to 7 before it starts an operating system; without it, what the system extends cannot be told from what the firmware did.",
			ZH: "PCR {0} 没有分隔事件。固件在启动操作系统之前必须封闭 PCR 0 到 7；没有它就分不清哪些是固件扩展的，哪些是系统扩展的。",
		},
		Remedy: finding.Text{
			EN: "Check that the log is complete. If it is, the firmware is broken or was left early: update it (apt-get install --only-upgrade ovmf).",
			ZH: "检查日志是否完整。若完整，则固件有缺陷或被提前离开：请更新固件（apt-get install --only-upgrade ovmf）。",
		},
	},
	{
		Code: "EVENT_SEPARATOR_REPEATED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "PCR {0} has more than one separator (again in event {1}). The firmware closes each PCR once; a second one is made later, to imitate another boot.",
			ZH: "PCR {0} 有不止一个分隔事件（事件 {1} 又一次出现）。固件对每个 PCR 只封闭一次；第二个是后来做的，用来冒充另一次启动。",
		},
		Remedy: finding.Text{
			EN: "Do not trust this boot; boot the machine again and compare.",
			ZH: "不要信任这次启动；重新启动机器后再比较。",
		},
	},
	{
		Code: "EVENT_SEPARATOR_ERROR", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The separator of PCR {0} says that the firmware met an error while it measured. What came before is not the whole story.",
			ZH: "PCR {0} 的分隔事件表明固件在度量时出错。在它之前的度量并不完整。",
		},
		Remedy: finding.Text{
			EN: "Read the firmware's own log (QEMU: -debugcon file:ovmf.log -global isa-debugcon.iobase=0x402) and boot again.",
			ZH: "查看固件自己的日志（QEMU：-debugcon file:ovmf.log -global isa-debugcon.iobase=0x402），然后重新启动。",
		},
	},
	{
		Code: "EVENT_LOG_SHA1_ONLY", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "The log has SHA-1 digests alone. Collisions in SHA-1 are practical: two different programs can be measured alike.",
			ZH: "日志只有 SHA-1 摘要。SHA-1 碰撞已可实现：两个不同的程序可以得到相同的度量。",
		},
		Remedy: finding.Text{
			EN: "Switch on the TPM's SHA-256 bank (swtpm_setup --pcr-banks sha256, or tpm2_pcrallocate sha256:all) and boot again.",
			ZH: "启用 TPM 的 SHA-256 组（swtpm_setup --pcr-banks sha256 或 tpm2_pcrallocate sha256:all），然后重新启动。",
		},
	},
	{
		Code: "KERNEL_NOT_MEASURED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "No event measures the kernel. SeaBIOS does not measure what it starts with -kernel, so these PCRs are the same whatever kernel runs: as reference values they prove nothing about it.",
			ZH: "没有任何事件度量内核。SeaBIOS 不度量 -kernel 启动的内容，因此无论运行哪个内核，这些 PCR 都一样：作为参考值，它们对内核毫无证明力。",
		},
		Remedy: finding.Text{
			EN: "Boot the VM with OVMF (apt-get install ovmf; -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd) and enrol again.",
			ZH: "改用 OVMF 启动虚拟机（apt-get install ovmf；-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd），再重新登记。",
		},
	},
	{
		Code: "COMMAND_LINE_NOT_MEASURED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "No event measures the kernel's command line. init=/bin/sh could be added without any PCR changing.",
			ZH: "没有任何事件度量内核命令行。加上 init=/bin/sh 也不会改变任何 PCR。",
		},
		Remedy: finding.Text{
			EN: "Boot with OVMF and a kernel of 5.18 or newer with its EFI stub, or through GRUB with its tpm module, or as a unified kernel image.",
			ZH: "使用 OVMF 和带 EFI stub 的 5.18 以上内核，或通过带 tpm 模块的 GRUB，或使用统一内核映像启动。",
		},
	},
	{
		Code: "INITRD_NOT_MEASURED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "No event measures an initrd. If this boot had one, its programs ran before the disk was opened and nothing proves which they were.",
			ZH: "没有任何事件度量 initrd。若这次启动用了 initrd，它的程序在打开磁盘之前运行，而没有证据说明它们是什么。",
		},
		Remedy: finding.Text{
			EN: "Boot with OVMF and a kernel of 5.18 or newer with its EFI stub, or through GRUB with its tpm module, or as a unified kernel image.",
			ZH: "使用 OVMF 和带 EFI stub 的 5.18 以上内核，或通过带 tpm 模块的 GRUB，或使用统一内核映像启动。",
		},
	},
	{
		Code: "IMA_ENTRY_CHANGED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "Entry {0} of the IMA list does not hash to its own digest. The kernel cannot make such an entry: its text was changed afterwards.",
			ZH: "IMA 列表的条目 {0} 与其自身的摘要不符。内核不会产生这样的条目：文本是事后被改的。",
		},
		Remedy: finding.Text{
			EN: "Fetch the list again (/sys/kernel/security/ima/binary_runtime_measurements); if it stays, do not trust what it says.",
			ZH: "重新取列表（/sys/kernel/security/ima/binary_runtime_measurements）；若仍如此，不要相信其内容。",
		},
	},
	{
		Code: "IMA_OTHER_BOOT", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The IMA list does not continue this event log: its first entry, boot_aggregate, is not the digest of the PCRs that the log leads to.",
			ZH: "该 IMA 列表不是此事件日志的延续：其首个条目 boot_aggregate 不是日志重放所得 PCR 的摘要。",
		},
		Remedy: finding.Text{
			EN: "Take both files in the same boot. If they are, firmware or boot loader extended PCRs without logging: compare with eventlog check --pcrs.",
			ZH: "两个文件须取自同一次启动。若确是如此，则固件或引导程序有未记日志的扩展：用 eventlog check --pcrs 比较。",
		},
	},
	{
		Code: "IMA_VIOLATION", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "While {0} was measured somebody had it open for writing, so the kernel could not vouch for the digest and recorded a violation.",
			ZH: "度量 {0} 时有进程正以写方式打开它，内核无法担保其摘要，因而记录了一次违规。",
		},
		Remedy: finding.Text{
			EN: "Find who writes the file while it is used; replace files by renaming, not by writing into them.",
			ZH: "找出在文件被使用时写它的进程；更新文件应使用改名替换，而不是就地写入。",
		},
	},
	{
		Code: "SECURE_BOOT_OFF", Severity: finding.Info,
		Meaning: finding.Text{
			EN: "UEFI Secure Boot was off: the firmware started what it found. What started is still measured, if other events say so.",
			ZH: "UEFI 安全启动未开启：固件启动了它找到的东西。只要有别的事件，启动的内容仍有度量。",
		},
		Remedy: finding.Text{
			EN: "Nothing, if the reference values name the kernel. Otherwise boot with OVMF_CODE_4M.ms.fd and OVMF_VARS_4M.ms.fd.",
			ZH: "若参考值指明了内核，则无需处理。否则使用 OVMF_CODE_4M.ms.fd 与 OVMF_VARS_4M.ms.fd 启动。",
		},
	},
}

// Check looks for what is wrong with the log by itself: data that its digest
// contradicts, missing and repeated separators, and boots that measure less
// than people think. Its findings are in the order of the log.
func (l *Log) Check() []finding.Finding {
	var out []finding.Finding
	if len(l.Algs) == 1 && l.Algs[0] == SHA1 {
		out = append(out, Findings.New("EVENT_LOG_SHA1_ONLY", "event log", fmt.Sprintf("banks: %v", l.Algs)))
	}
	var separators [8]int
	for i := range l.Events {
		e := &l.Events[i]
		if b, _ := e.Binding(); b == Broken {
			out = append(out, Findings.New("EVENT_DIGEST_MISMATCH", e.subject(), e.mismatch(), fmt.Sprint(e.Number)))
		}
		if e.Type != EVSeparator || e.PCR > 7 {
			continue
		}
		if separators[e.PCR]++; separators[e.PCR] == 2 {
			out = append(out, Findings.New("EVENT_SEPARATOR_REPEATED", e.subject(), e.Text(), fmt.Sprint(e.PCR), fmt.Sprint(e.Number)))
		}
		if e.separatorError() {
			out = append(out, Findings.New("EVENT_SEPARATOR_ERROR", e.subject(), e.Text(), fmt.Sprint(e.PCR)))
		}
	}
	for pcr, n := range separators {
		if n == 0 {
			out = append(out, Findings.New("EVENT_SEPARATOR_MISSING", fmt.Sprintf("PCR %d", pcr), "no EV_SEPARATOR event", fmt.Sprint(pcr)))
		}
	}
	return append(out, l.coverage()...)
}

// coverage reports boots whose kernel, command line or initrd no PCR saw.
func (l *Log) coverage() []finding.Finding {
	var out []finding.Finding
	m := l.Measures()
	for _, x := range []struct {
		missing        bool
		code, evidence string
	}{
		{!m.Kernel, "KERNEL_NOT_MEASURED", "no EV_EFI_BOOT_SERVICES_APPLICATION event in PCR 4"},
		{!m.CommandLine, "COMMAND_LINE_NOT_MEASURED", "no LOADED_IMAGE::LoadOptions event, no kernel_cmdline event"},
		{!m.Initrd, "INITRD_NOT_MEASURED", `no "Linux initrd" event in PCR 9, no file event of a boot loader`},
		{m.SecureBoot == "off", "SECURE_BOOT_OFF", "variable SecureBoot = 00 in PCR 7"},
	} {
		if x.missing {
			out = append(out, Findings.New(x.code, "event log", x.evidence))
		}
	}
	return out
}

// Coverage is what a boot measured, as far as the log claims.
type Coverage struct {
	Kernel, CommandLine, Initrd bool
	SecureBoot                  string // "on", "off", or "" when the log does not say
}

// Measures says which parts of the boot have an event. It is a statement about
// the log's shape: an event that is there may be of anything, and only
// reference values say whether it is of the right thing.
func (l *Log) Measures() Coverage {
	var c Coverage
	for i := range l.Events {
		e := &l.Events[i]
		switch {
		case e.PCR == 4 && e.Type == EVEFIBootServicesApp:
			c.Kernel = true
		case e.PCR == 9 && e.Type == EVEventTag:
			id, _, _ := decodeTag(e.Data)
			c.CommandLine = c.CommandLine || id == tagLoadOptions
			c.Initrd = c.Initrd || id == tagInitrd
		case e.PCR == 9 && e.Type == EVIPL:
			c.Initrd = true // GRUB measures every file that it reads, the initrd among them
		case e.PCR == 8 && e.Type == EVIPL:
			c.CommandLine = c.CommandLine || strings.HasPrefix(string(e.Data), "kernel_cmdline: ")
		case e.PCR == 12 && e.Type == EVIPL:
			c.CommandLine = true // systemd-stub
		case e.PCR == 11 && e.Type == EVIPL:
			c.Initrd = true // systemd-stub measures the sections of a unified kernel image
		case e.PCR == 7 && e.Type == EVEFIVariableDriver:
			if v, err := decodeVariable(e.Data); err == nil && v.name == "SecureBoot" {
				c.SecureBoot = "off"
				if slices.Equal(v.value, []byte{1}) {
					c.SecureBoot = "on"
				}
			}
		}
	}
	return c
}

// ComparePCRs reports every PCR whose value in got the replayed banks do not
// have, once for all banks in which it differs.
func ComparePCRs(replayed []*Bank, got map[Alg]map[int][]byte) []finding.Finding {
	var out []finding.Finding
	for pcr := 0; pcr <= MaxPCR; pcr++ {
		var banks, evidence []string
		for _, b := range replayed {
			if v, ok := got[b.Alg][pcr]; ok && !slices.Equal(v, b.PCR[pcr]) {
				banks = append(banks, b.Alg.String())
				evidence = append(evidence, fmt.Sprintf("%v: the log leads to %s, the TPM has %s", b.Alg, short(b.PCR[pcr]), short(v)))
			}
		}
		if len(banks) > 0 {
			out = append(out, Findings.New("EVENT_LOG_MISMATCH", fmt.Sprintf("PCR %d (%s)", pcr, strings.Join(banks, ", ")),
				strings.Join(evidence, "; "), fmt.Sprint(pcr)))
		}
	}
	return out
}

func (e *Event) subject() string {
	return fmt.Sprintf("event %d (PCR %d, %v)", e.Number, e.PCR, e.Type)
}

func (e *Event) mismatch() string {
	for _, d := range e.Digests {
		if d.Alg.Available() {
			if sum := d.Alg.Sum(e.Data); !slices.Equal(sum, d.Sum) {
				return fmt.Sprintf("%v digest %s, the data hashes to %s: %s", d.Alg, short(d.Sum), short(sum), e.Text())
			}
		}
	}
	return e.Text()
}

func short(b []byte) string {
	if len(b) > 8 {
		return hex.EncodeToString(b[:8]) + "…"
	}
	return hex.EncodeToString(b)
}
