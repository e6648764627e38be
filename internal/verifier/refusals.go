package verifier

import "github.com/vouchsafe/vouchsafe/finding"

// Refusals is every reason why this package says no beside what attest finds.
// docs/findings/service.md says more.
var Refusals = finding.Catalog{
	{Code: "AK_UNFIT", Severity: finding.Error,
		Meaning: finding.Text{EN: "The attestation key could have signed something that no TPM made.", ZH: "该证明密钥可能签署过并非由 TPM 产生的内容。"},
		Remedy:  finding.Text{EN: "Use the agent of the service's version", ZH: "请使用与服务版本一致的代理"}},
	{Code: "AK_NOT_PROVED", Severity: finding.Error,
		Meaning: finding.Text{EN: "The attestation key was not shown to be in the vTPM whose endorsement key was recorded at birth: another TPM, another VM, or old evidence.", ZH: "未能证明该证明密钥位于出生时登记的 vTPM 中：另一个 TPM、另一台虚拟机或旧证据。"},
		Remedy:  finding.Text{EN: "Boot the VM with its own vTPM and attest again; vouchsafe vm show NAME has the recorded key's digest", ZH: "请以其自身的 vTPM 启动并重新证明；vouchsafe vm show NAME 显示登记密钥的摘要"}},
	{Code: "IDENTITY_KEY_MISSING", Severity: finding.Error,
		Meaning: finding.Text{EN: "The evidence certifies no key for the identity certificate.", ZH: "证据未认证任何身份密钥。"},
		Remedy:  finding.Text{EN: "Use the agent of the service's version", ZH: "请使用与服务版本一致的代理"}},
	{Code: "SHARE_KEY_MISSING", Severity: finding.Error,
		Meaning: finding.Text{EN: "A disk key was asked for, and the evidence certifies no storage key of the null hierarchy to send it to.", ZH: "请求了磁盘密钥，但证据未认证空层级的存储密钥。"},
		Remedy:  finding.Text{EN: "Use the agent of the service's version", ZH: "请使用与服务版本一致的代理"}},
	{Code: "NO_BOOT_WAITING", Severity: finding.Error,
		Meaning: finding.Text{EN: "No boot of this VM waits for approval: none was shown within the hour, or everything it showed was approved already.", ZH: "该虚拟机没有等待批准的启动：一小时内未出示，或均已批准。"},
		Remedy:  finding.Text{EN: "In the guest: vouchsafe-agent attest; then vouchsafe policy enroll NAME", ZH: "在虚拟机内：vouchsafe-agent attest；然后 vouchsafe policy enroll NAME"}},
	{Code: "BOOT_UNFIT", Severity: finding.Error,
		Meaning: finding.Text{EN: "What this boot measured, or another would, cannot be made reference values: the log lacks what is needed for them.", ZH: "该启动所度量的（或另一启动将度量的）内容无法成为参考值：日志缺少所需内容。"},
		Remedy:  finding.Text{EN: "vouchsafe attest show NAME says what it measured; boot it once as it is meant to be, then vouchsafe policy enroll NAME", ZH: "vouchsafe attest show NAME 可查看其度量；请按预期方式启动一次，然后 vouchsafe policy enroll NAME"}},
	{Code: "MODULE_LISTS_TOO_MANY", Severity: finding.Error,
		Meaning: finding.Text{EN: "More lists of allowed modules are in force for this VM than are looked at.", ZH: "该虚拟机生效的模块允许列表过多。"},
		Remedy:  finding.Text{EN: "vouchsafe policy modules NAME shows them; --withdraw VERSION ends one", ZH: "vouchsafe policy modules NAME 可查看；--withdraw 版本 可撤回其中之一"}},
	{Code: "KEY_VERSION_IN_USE", Severity: finding.Error,
		Meaning: finding.Text{EN: "A key keeps three versions beside the newest, and rotating would drop one that VMs still need to open their disks.", ZH: "密钥除最新版本外保留三个版本，此次轮换将丢弃仍有虚拟机用于打开磁盘的版本。"},
		Remedy:  finding.Text{EN: "vouchsafe key show policy says how many; reboot those VMs, or revoke them: each seals anew at its next admission with a disk", ZH: "vouchsafe key show policy 可查看数量；请重启或吊销这些虚拟机：每台在下次带磁盘准入时重新密封"}},
}
