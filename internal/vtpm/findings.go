package vtpm

import "github.com/vouchsafe/vouchsafe/finding"

// Refusal is a state that was refused, and left as it was. Show Finding to the
// person: it says what was seen and what to type.
type Refusal struct{ Finding finding.Finding }

func (r *Refusal) Error() string { return r.Finding.Code + ": " + r.Finding.Evidence }

func refuse(code, subject, evidence string, args ...string) error {
	return &Refusal{Catalog.New(code, subject, evidence, args...)}
}

// Catalog has every diagnosis about a vTPM's state; docs/findings/vtpm.md has
// a longer entry for each.
var Catalog = finding.Catalog{
	{
		Code: "STATE_DAMAGED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the state file is cut, changed or not one of ours; a TPM started from it could have lost keys, so it is not started and the file is left as it is",
			ZH: "状态文件被截断、被改动，或者不是本程序写的；用它启动的 TPM 可能已丢失密钥，因此不启动，文件保持原样",
		},
		Remedy: finding.Text{
			EN: "restore the directory from a backup; to give up the keys in it and begin with an empty TPM: mv {0} {0}.damaged",
			ZH: "从备份恢复该目录；若放弃其中的密钥、从空的 TPM 重新开始：mv {0} {0}.damaged",
		},
	},
	{
		Code: "STATE_OTHER_INSTANCE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "this state belongs to another vTPM than the rest of the directory, or than the one that was asked for; running it would give one VM another VM's keys",
			ZH: "这份状态属于另一个 vTPM，而不是目录里其余文件（或所要求）的那一个；用它运行会把别的虚拟机的密钥交给这台虚拟机",
		},
		Remedy: finding.Text{
			EN: "give each VM a directory of its own; put the state back from the backup of {0}",
			ZH: "每台虚拟机使用各自的目录；从 {0} 的备份恢复状态",
		},
	},
	{
		Code: "STATE_ROLLED_BACK", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the state is older than one that is known to have existed: counters, revoked keys and failed passwords in it would come back to life",
			ZH: "这份状态比已知存在过的更旧：其中的计数器、已废除的密钥和失败的口令次数会被恢复",
		},
		Remedy: finding.Text{
			EN: "find the newest copy of {0}; if the old one is meant, name its generation: --min-generation {1}",
			ZH: "找出 {0} 的最新副本；若确实要用旧的，请写明它的代数：--min-generation {1}",
		},
	},
	{
		Code: "STATE_LOCKED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "another process is using this vTPM; two living copies of one TPM would give out the same keys and forget each other's changes",
			ZH: "另一个进程正在使用这个 vTPM；同一个 TPM 的两个活动副本会交出相同的密钥，并互相丢失对方的改动",
		},
		Remedy: finding.Text{
			EN: "see who it is and stop it: fuser -v {0}",
			ZH: "查出并停止该进程：fuser -v {0}",
		},
	},
	{
		Code: "STATE_WRONG_KEY", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the state does not open with the key that was given: it was sealed with another one, or its header was changed",
			ZH: "所给的密钥打不开这份状态：它是用另一把密钥密封的，或者文件头被改动",
		},
		Remedy: finding.Text{
			EN: "give the key that was used when the state was written: --key file=FILE (or pwdfile=FILE for a passphrase)",
			ZH: "给出写入状态时所用的密钥：--key file=FILE（口令则用 pwdfile=FILE）",
		},
	},
	{
		Code: "STATE_KEY_MISSING", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the state is sealed, and no key was given",
			ZH: "这份状态是密封的，但没有给出密钥",
		},
		Remedy: finding.Text{
			EN: "add --key file=FILE (or pwdfile=FILE for a passphrase)",
			ZH: "加上 --key file=FILE（口令则用 pwdfile=FILE）",
		},
	},
	{
		Code: "STATE_NOT_SEALED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "a key was given, and the state is not sealed: somebody may have put another state in its place",
			ZH: "给出了密钥，但状态没有密封：可能有人用另一份状态替换了它",
		},
		Remedy: finding.Text{
			EN: "if the state is trusted, seal it: {1}vouchsafe vtpm rekey --tpmstate dir={0} --new-key file=FILE",
			ZH: "若信任这份状态，请将其密封：{1}vouchsafe vtpm rekey --tpmstate dir={0} --new-key file=FILE",
		},
	},
	{
		Code: "STATE_OF_SWTPM", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the directory holds a TPM of swtpm, which has not been taken over yet; a new TPM beside it would hide the keys that the VM has",
			ZH: "目录里是 swtpm 的 TPM，尚未接管；在旁边新建 TPM 会掩盖虚拟机已有的密钥",
		},
		Remedy: finding.Text{
			EN: "take it over, with the keys in it; swtpm's files stay as they are: vouchsafe vtpm import-swtpm {0}",
			ZH: "连同其中的密钥一起接管，swtpm 的文件保持原样：vouchsafe vtpm import-swtpm {0}",
		},
	},
	{
		Code: "STATE_RUN_BY_SWTPM", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "swtpm has run this TPM since it was taken over, so there are two now that differ: what the guest stored since is in the one or in the other",
			ZH: "接管之后 swtpm 又运行过这个 TPM，因此现在有两个不同的 TPM：客户机此后存入的内容只在其中之一",
		},
		Remedy: finding.Text{
			EN: "choose one, with a copy of the directory at hand. The one of vouchsafe: mv {0}/tpm2-00.permall {0}/swtpm.old; or the one of swtpm: mkdir {0}/before && mv {0}/vtpm.* {0}/before/ && vouchsafe vtpm import-swtpm {0}",
			ZH: "先复制该目录，再二选一。保留 vouchsafe 的：mv {0}/tpm2-00.permall {0}/swtpm.old；或保留 swtpm 的：mkdir {0}/before && mv {0}/vtpm.* {0}/before/ && vouchsafe vtpm import-swtpm {0}",
		},
	},
	{
		Code: "STATE_NOT_FOREIGN", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "there is no TPM 2.0 of swtpm to take over in this directory",
			ZH: "此目录中没有可接管的 swtpm TPM 2.0",
		},
		Remedy: finding.Text{
			EN: "name the directory that swtpm had as --tpmstate; libvirt's are /var/lib/libvirt/swtpm/UUID/tpm2: ls -la {0}",
			ZH: "请指定 swtpm 的 --tpmstate 目录；libvirt 的在 /var/lib/libvirt/swtpm/UUID/tpm2：ls -la {0}",
		},
	},
	{
		Code: "STATE_OF_TPM12", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the directory holds a TPM 1.2 of swtpm: another standard, whose keys no TPM 2.0 can have",
			ZH: "目录里是 swtpm 的 TPM 1.2：另一套标准，其密钥无法用于 TPM 2.0",
		},
		Remedy: finding.Text{
			EN: "leave this VM on swtpm, or give it a TPM 2.0 in a directory of its own: mkdir $(dirname {0})/tpm2",
			ZH: "这台虚拟机继续使用 swtpm，或另用一个目录给它 TPM 2.0：mkdir $(dirname {0})/tpm2",
		},
	},
	{
		Code: "STATE_FOREIGN_NEWER", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "swtpm's state was written by a libtpms or swtpm that this program does not know yet; reading it halfway could lose keys",
			ZH: "swtpm 的状态由本程序尚不认识的 libtpms 或 swtpm 版本写成；只读一部分可能会丢失密钥",
		},
		Remedy: finding.Text{
			EN: "leave this VM on swtpm until a release of vouchsafe knows it, and say which version wrote it: swtpm --version",
			ZH: "这台虚拟机暂时继续使用 swtpm，等待 vouchsafe 支持，并告知写入版本：swtpm --version",
		},
	},
	{
		Code: "STATE_FOREIGN_UNSUPPORTED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the TPM of swtpm holds a key, an index or a session that this program cannot have; nothing is left out silently, so nothing was taken over",
			ZH: "swtpm 的 TPM 中有本程序无法支持的密钥、索引或会话；不会悄悄丢弃任何内容，因此没有接管",
		},
		Remedy: finding.Text{
			EN: "leave this VM on swtpm; or, when the guest does not need it, remove it there (tpm2_evictcontrol -c HANDLE, tpm2_nvundefine INDEX), shut down, and try again: vouchsafe vtpm import-swtpm --dry-run {0}",
			ZH: "这台虚拟机继续使用 swtpm；若客户机不需要它，在客户机内删除（tpm2_evictcontrol -c HANDLE、tpm2_nvundefine INDEX），关机后重试：vouchsafe vtpm import-swtpm --dry-run {0}",
		},
	},
	{
		Code: "STATE_NEWER", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the state was written by a newer release of this program, in a format that this one does not know",
			ZH: "这份状态由更新版本的程序写成，本版本不认识其格式",
		},
		Remedy: finding.Text{
			EN: "use the newer release again: vouchsafe version",
			ZH: "重新使用较新的版本：vouchsafe version",
		},
	},
	{
		Code: "STATE_INCOMPLETE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "a suspended TPM's volatile state is there and its permanent state is not, or they are from different moments; a new TPM is not made in its place",
			ZH: "有挂起的 TPM 的易失状态，却没有对应的永久状态，或两者来自不同时刻；不会在原处新建 TPM",
		},
		Remedy: finding.Text{
			EN: "restore both files from the same backup; to give up what was in RAM only: rm {0}/vtpm.volatile",
			ZH: "从同一份备份恢复两个文件；若只放弃内存中的内容：rm {0}/vtpm.volatile",
		},
	},
	{
		Code: "STATE_SUSPENDED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the TPM is suspended: its RAM is in the directory as well, and both files cannot be changed at one moment",
			ZH: "TPM 处于挂起状态：目录里还有它的内存内容，两个文件无法在同一时刻更改",
		},
		Remedy: finding.Text{
			EN: "resume the VM and shut it down, then try again",
			ZH: "恢复虚拟机并正常关机，然后重试",
		},
	},
}
