package attest

import "github.com/vouchsafe/vouchsafe/finding"

// Findings is what an appraisal can report; docs/findings/attest.md has an entry for each.
var Findings = finding.Catalog{
	{
		Code: "EVIDENCE_MALFORMED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The evidence cannot be read, so nothing was appraised.",
			ZH: "无法读取证据，因此没有进行任何评估。",
		},
		Remedy: finding.Text{
			EN: "Send the evidence again with the agent of this version (vouchsafe-agent attest).",
			ZH: "用本版本的代理重新发送证据（vouchsafe-agent attest）。",
		},
	},
	{
		Code: "EVIDENCE_NOT_APPRAISED", Severity: finding.Info,
		Meaning: finding.Text{
			EN: "Evidence of this kind is not appraised yet. It neither helps nor harms.",
			ZH: "目前还不评估这类证据。它既不加分也不减分。",
		},
		Remedy: finding.Text{
			EN: "Nothing.",
			ZH: "无需处理。",
		},
	},
	{
		Code: "HOST_UNATTESTED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "The host of this vTPM has not been attested. What the vTPM says is the host's word: an honest host makes it true, a dishonest one can make it say anything.",
			ZH: "该 vTPM 所在的宿主机未经证明。vTPM 所说的只是宿主机的一面之词：宿主机诚实则为真，不诚实则可以任意编造。",
		},
		Remedy: finding.Text{
			EN: "Attest the host by its own TPM (vouchsafe host enroll), or accept it knowingly (--accept-unattested-host).",
			ZH: "用宿主机自己的 TPM 证明它（vouchsafe host enroll），或在知情的前提下接受（--accept-unattested-host）。",
		},
	},
	{
		Code: "QUOTE_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "There is no quote, and without one nothing is signed.",
			ZH: "没有 quote，因此没有任何内容是经过签名的。",
		},
		Remedy: finding.Text{
			EN: "Run vouchsafe-agent attest in the guest; check that it reaches /dev/tpmrm0.",
			ZH: "在虚拟机中运行 vouchsafe-agent attest；检查它能否访问 /dev/tpmrm0。",
		},
	},
	{
		Code: "QUOTE_MALFORMED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The quote is not what TPM2_Quote returns.",
			ZH: "该 quote 不是 TPM2_Quote 的返回内容。",
		},
		Remedy: finding.Text{
			EN: "Send attestation and signature exactly as the TPM returned them, for one bank.",
			ZH: "原样发送 TPM 返回的证明与签名，且只含一个组。",
		},
	},
	{
		Code: "QUOTE_SIGNATURE_INVALID", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The quote was not signed by the attestation key recorded for this VM: it is another VM's, or was changed on its way.",
			ZH: "该 quote 不是由为此虚拟机登记的证明密钥签名的：它属于另一台虚拟机，或在途中被改过。",
		},
		Remedy: finding.Text{
			EN: "Compare the AK's name in the guest (tpm2_readpublic) with vouchsafe vm show; if the VM was made anew, enrol it again.",
			ZH: "比较虚拟机中 AK 的名称（tpm2_readpublic）与 vouchsafe vm show；若虚拟机是重建的，请重新登记。",
		},
	},
	{
		Code: "QUOTE_NOT_FRESH", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The quote does not sign the data of this admission: it is an old one, or was made for another VM, purpose, key or connection.",
			ZH: "该 quote 签名的不是本次准入的数据：它是旧的，或是为另一台虚拟机、另一用途、另一密钥或另一连接生成的。",
		},
		Remedy: finding.Text{
			EN: "Ask for a new nonce and quote again; if the agent did just that, somebody replays.",
			ZH: "重新请求随机数并再次 quote；若代理刚刚就是这样做的，则有人在重放。",
		},
	},
	{
		Code: "QUOTE_BANK_WEAK", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The quote is over a bank that proves too little: SHA-1 has collisions.",
			ZH: "该 quote 针对的组证明力太弱：SHA-1 存在碰撞。",
		},
		Remedy: finding.Text{
			EN: "Quote the SHA-256 bank; switch it on if the vTPM has none (tpm2_pcrallocate sha256:all).",
			ZH: "对 SHA-256 组做 quote；若 vTPM 没有该组，请启用（tpm2_pcrallocate sha256:all）。",
		},
	},
	{
		Code: "QUOTE_PCRS_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The quote leaves out PCRs {0}, which the reference values name.",
			ZH: "该 quote 缺少参考值中列出的 PCR {0}。",
		},
		Remedy: finding.Text{
			EN: "Quote all PCRs of the policy, in its bank (vouchsafe policy show).",
			ZH: "对策略中的全部 PCR 做 quote，并使用策略指定的组（vouchsafe policy show）。",
		},
	},
	{
		Code: "PCR_VALUES_UNSIGNED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The PCR values beside the quote are not those that it signs.",
			ZH: "与 quote 一同发送的 PCR 值不是它所签名的值。",
		},
		Remedy: finding.Text{
			EN: "Read the PCRs right before the quote and repeat both if a PCR moved in between.",
			ZH: "在 quote 之前立即读取 PCR；若其间 PCR 有变化，两者都重做。",
		},
	},
	{
		Code: "EVENT_LOG_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "There is no event log, so nobody knows what the PCR values stand for.",
			ZH: "没有事件日志，因此无法知道 PCR 值代表什么。",
		},
		Remedy: finding.Text{
			EN: "Send /sys/kernel/security/tpm0/binary_bios_measurements; mount securityfs first if it is not there.",
			ZH: "发送 /sys/kernel/security/tpm0/binary_bios_measurements；若不存在，请先挂载 securityfs。",
		},
	},
	{
		Code: "EVENT_LOG_UNREADABLE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The event log is not one, or has no digests of the quoted bank.",
			ZH: "该事件日志无法解析，或没有所 quote 的组的摘要。",
		},
		Remedy: finding.Text{
			EN: "Look at it with vouchsafe eventlog show FILE.",
			ZH: "用 vouchsafe eventlog show FILE 查看。",
		},
	},
	{
		Code: "IMA_LOG_UNREADABLE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The IMA list is not one, or an entry's text was changed.",
			ZH: "该 IMA 列表无法解析，或某个条目的文本被改过。",
		},
		Remedy: finding.Text{
			EN: "Send /sys/kernel/security/ima/binary_runtime_measurements unchanged.",
			ZH: "原样发送 /sys/kernel/security/ima/binary_runtime_measurements。",
		},
	},
	{
		Code: "IMA_LOG_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "A list of allowed kernel modules is in force for this VM, and the evidence has no IMA list: nobody knows what its kernel loaded.",
			ZH: "此虚拟机有生效的内核模块允许列表，但证据中没有 IMA 列表：无从得知其内核加载了什么。",
		},
		Remedy: finding.Text{
			EN: "Run the agent with --ima /sys/kernel/security/ima/binary_runtime_measurements.",
			ZH: "运行代理时加上 --ima /sys/kernel/security/ima/binary_runtime_measurements。",
		},
	},
	{
		Code: "IMA_LOG_NOT_QUOTED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The IMA list was sent, but the quote leaves PCR 10 out, so nothing proves the list.",
			ZH: "发送了 IMA 列表，但 quote 不含 PCR 10，因此该列表未得到证明。",
		},
		Remedy: finding.Text{
			EN: "Quote PCR 10 as well; vouchsafe-agent does so with --ima.",
			ZH: "quote 应包含 PCR 10；vouchsafe-agent 使用 --ima 时会这样做。",
		},
	},
	{
		Code: "MODULE_NOT_ALLOWED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The guest's kernel loaded a file that is on no list of allowed modules.",
			ZH: "虚拟机的内核加载了一个不在任何模块允许列表中的文件。",
		},
		Remedy: finding.Text{
			EN: "If it belongs there: vouchsafe policy modules VM --allow FILE, then boot the VM again or let its agent attest; if not, find who loaded it.",
			ZH: "若应允许：vouchsafe policy modules VM --allow 文件，然后重启虚拟机或让其代理再次证明；否则查明是谁加载的。",
		},
	},
	{
		Code: "MODULE_CHANGED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The guest's kernel loaded a file whose name is allowed and whose content is not: another build, another signature, or tampering.",
			ZH: "虚拟机的内核加载了一个文件：名称在允许列表中，但内容不同：另一次构建、另一签名，或被篡改。",
		},
		Remedy: finding.Text{
			EN: "Compare with the package (sha256sum); after an update of the kernel: vouchsafe policy modules VM --allow /lib/modules/RELEASE.",
			ZH: "与软件包比较（sha256sum）；若是内核更新：vouchsafe policy modules VM --allow /lib/modules/版本。",
		},
	},
	{
		Code: "MODULE_SIGNER_NOT_ALLOWED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The guest's kernel loaded a module that none of the allowed signers has signed.",
			ZH: "虚拟机的内核加载了一个模块，它不是由任何被允许的签名者签名的。",
		},
		Remedy: finding.Text{
			EN: "Sign it with an allowed key (vouchsafe module sign), or allow it by its digest: vouchsafe policy modules VM --allow FILE.",
			ZH: "用被允许的密钥签名（vouchsafe module sign），或按摘要允许：vouchsafe policy modules VM --allow 文件。",
		},
	},
	{
		Code: "MODULE_VIOLATION", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "While the guest's kernel loaded a file somebody had it open for writing, so the kernel could not say what it loaded.",
			ZH: "虚拟机的内核加载某个文件时有进程正以写方式打开该文件，内核无法说明加载的内容。",
		},
		Remedy: finding.Text{
			EN: "Boot the VM again; update modules by renaming, not by writing into them.",
			ZH: "重新启动虚拟机；更新模块应使用改名替换，而不是就地写入。",
		},
	},
	{
		Code: "MODULES_NOT_MEASURED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "A list of allowed modules is in force and the IMA list names no module at all: the guest's kernel does not measure them.",
			ZH: "模块允许列表已生效，但 IMA 列表中没有任何模块：虚拟机的内核没有度量模块。",
		},
		Remedy: finding.Text{
			EN: "Write 'measure func=MODULE_CHECK' to /sys/kernel/security/ima/policy at the start of the initramfs, before the first module.",
			ZH: "在 initramfs 最开始、加载首个模块之前，将 'measure func=MODULE_CHECK' 写入 /sys/kernel/security/ima/policy。",
		},
	},
	{
		Code: "EVENT_LOG_MISMATCH", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The log does not lead to the quoted value of PCR {0}: something was extended that is not in the log, or the log was changed.",
			ZH: "按日志重放得不到所 quote 的 PCR {0} 的值：有扩展未写入日志，或日志被改过。",
		},
		Remedy: finding.Text{
			EN: "Boot the VM again. If it stays, find what extends PCR {0} without logging; it is not the approved boot.",
			ZH: "重新启动虚拟机。若仍如此，找出谁扩展了 PCR {0} 却不记日志；这不是被批准的启动。",
		},
	},
	{
		Code: "EVENT_DIGEST_MISMATCH", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "Event {0} must carry the hash of its own data and does not: the log's text was changed.",
			ZH: "事件 {0} 的摘要必须是其数据的哈希，但不是：日志的文本被改过。",
		},
		Remedy: finding.Text{
			EN: "Send the log as the kernel gives it. If it is, treat the VM as tampered with.",
			ZH: "原样发送内核给出的日志。若已是原样，按被篡改处理。",
		},
	},
	{
		Code: "BOOT_DIFFERS", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The VM did not boot what was approved.",
			ZH: "虚拟机启动的内容不是被批准的。",
		},
		Remedy: finding.Text{
			EN: "If the change was meant, approve it: vouchsafe policy propose --kernel … --initrd … --cmdline …. If not, do not give this VM anything.",
			ZH: "若变更是有意的，请批准它：vouchsafe policy propose --kernel … --initrd … --cmdline …。否则不要给该虚拟机任何东西。",
		},
	},
	{
		Code: "REFERENCE_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "No approved reference values exist for this VM, so any boot would do.",
			ZH: "该虚拟机没有已批准的参考值，那样任何启动都能通过。",
		},
		Remedy: finding.Text{
			EN: "Boot the VM once as it should be and enrol that: vouchsafe policy enroll VM.",
			ZH: "让虚拟机以应有的方式启动一次并登记：vouchsafe policy enroll VM。",
		},
	},
	{
		Code: "REFERENCE_NOT_YET_VALID", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The reference values for this VM are approved for later.",
			ZH: "该虚拟机的参考值要到以后才生效。",
		},
		Remedy: finding.Text{
			EN: "Wait, or approve a set that is valid now. Check the service's clock (vouchsafe doctor).",
			ZH: "等待，或批准一个现在有效的集合。检查服务的时钟（vouchsafe doctor）。",
		},
	},
	{
		Code: "REFERENCES_TOO_MANY", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "The policy has more approved sets than one appraisal looks at: a boot that fits a later one is refused.",
			ZH: "策略的已批准集合多于一次评估所查看的数量：符合后面集合的启动会被拒绝。",
		},
		Remedy: finding.Text{
			EN: "Withdraw sets of kernels that nobody boots any more (vouchsafe policy withdraw).",
			ZH: "撤回已无人使用的内核的集合（vouchsafe policy withdraw）。",
		},
	},
	{
		Code: "TPM_ROLLED_BACK", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The vTPM has counted fewer resets than its manager saw: an old copy of its state is running.",
			ZH: "vTPM 的复位计数少于其管理者所见：正在运行的是旧的状态副本。",
		},
		Remedy: finding.Text{
			EN: "Stop the VM, find who restored the state file, and open the current one with a new lease.",
			ZH: "停止该虚拟机，查明是谁恢复了状态文件，并用新租约打开当前状态。",
		},
	},
	{
		Code: "TPM_RESET_UNSEEN", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "The vTPM has counted resets that its manager did not see: it ran somewhere else in between.",
			ZH: "vTPM 计到了其管理者没有看到的复位：它其间在别处运行过。",
		},
		Remedy: finding.Text{
			EN: "Find the other copy of the state (another host, a snapshot) before this VM gets anything.",
			ZH: "在给该虚拟机任何东西之前，找到状态的另一份副本（另一台宿主机或快照）。",
		},
	},
	{
		Code: "CERTIFIED_KEY_INVALID", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "A key that the guest presents is not certified by the TPM which quoted, for this admission.",
			ZH: "虚拟机出示的密钥没有由做 quote 的 TPM 为本次准入认证。",
		},
		Remedy: finding.Text{
			EN: "Certify the key with the same AK and the same qualifying data, after creating it in the vTPM.",
			ZH: "在 vTPM 中创建密钥之后，用同一 AK 和同一 qualifying data 认证它。",
		},
	},
}
