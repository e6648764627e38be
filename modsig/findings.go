package modsig

import "github.com/vouchsafe/vouchsafe/finding"

// Findings are the codes that this package reports; docs/findings/modsig.md
// says more about each.
var Findings = append(logFindings, finding.Catalog{
	{
		Code: "MODULE_UNSIGNED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the module has no signature: the kernel refuses it under Secure Boot or module.sig_enforce=1, and taints itself otherwise",
			ZH: "模块没有签名：在安全启动或 module.sig_enforce=1 下内核会拒绝加载，否则内核会被标记为受污染"},
		Remedy: finding.Text{
			EN: "vouchsafe module sign --key KEY --cert CERT FILE; is it a packaged module, reinstall the package: stripping a module removes its signature",
			ZH: "vouchsafe module sign --key KEY --cert CERT 文件；若模块来自软件包，请重新安装该软件包：对模块执行 strip 会去掉签名"},
	},
	{
		Code: "MODULE_TRAILING_BYTES", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "bytes stand behind the signature, so the kernel does not see it and takes the module for unsigned",
			ZH: "签名后面还有多余字节，内核看不到签名，会把模块当作未签名"},
		Remedy: finding.Text{
			EN: "copy the file again from its source; a text editor or a transfer in text mode has appended to it",
			ZH: "从来源重新复制该文件；文本编辑器或文本模式传输在末尾追加了内容"},
	},
	{
		Code: "MODULE_BAD_SIGNATURE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signer is known, and the module is not what it signed: changed or damaged after signing. The kernel refuses it in every mode, without a line in its log",
			ZH: "签名者已知，但模块内容与签名不符：签名之后被修改或损坏。无论何种模式内核都会拒绝，且日志中没有任何提示"},
		Remedy: finding.Text{
			EN: "reinstall the package that the file belongs to (dpkg -S FILE); if it was changed on purpose, sign it again; if nobody changed it, treat the machine as compromised",
			ZH: "重新安装该文件所属软件包（dpkg -S 文件）；若是有意修改，请重新签名；若无人修改过，请按主机已被入侵处理"},
	},
	{
		Code: "MODULE_SIGNATURE_MALFORMED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "what stands at the end of the file cannot be read as a signature; the kernel refuses it in every mode, without a line in its log",
			ZH: "文件末尾的内容无法作为签名读取；无论何种模式内核都会拒绝，且日志中没有任何提示"},
		Remedy: finding.Text{
			EN: "copy the file again from its source, or sign it again: vouchsafe module sign --key KEY --cert CERT FILE",
			ZH: "从来源重新复制该文件，或重新签名：vouchsafe module sign --key KEY --cert CERT 文件"},
	},
	{
		Code: "MODULE_UNKNOWN_KEY", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signature is by a key that this kernel does not have: it refuses the module under Secure Boot or module.sig_enforce=1, and taints itself otherwise",
			ZH: "签名所用的密钥不在此内核的密钥环中：在安全启动或 module.sig_enforce=1 下内核会拒绝加载，否则内核会被标记为受污染"},
		Remedy: finding.Text{
			EN: "enrol the signer's CA (mokutil --import ca.der, then reboot and confirm), or sign again with a key that is enrolled; test with --cert CA before you do",
			ZH: "导入签名者的 CA（mokutil --import ca.der，重启并确认），或用已导入的密钥重新签名；可先用 --cert CA 试验"},
	},
	{
		Code: "MODULE_LEAF_NOT_EMBEDDED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signer's CA {0} is known, and the signature does not carry the signer's certificate: the kernel has no other way to find it, and takes the key for unknown",
			ZH: "签名者的 CA {0} 已知，但签名中没有携带签名者证书：内核无法找到该证书，会把密钥当作未知"},
		Remedy: finding.Text{
			EN: "sign again with the certificate inside: vouchsafe module sign --chain --key KEY --cert CERT FILE (the kernel's own sign-file cannot do that)",
			ZH: "重新签名并嵌入证书：vouchsafe module sign --chain --key KEY --cert CERT 文件（内核自带的 sign-file 做不到）"},
	},
	{
		Code: "MODULE_OTHER_KERNEL", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the module was built for kernel {0}, not for {1}",
			ZH: "该模块为内核 {0} 构建，而不是 {1}"},
		Remedy: finding.Text{
			EN: "take the module of the package linux-image-{1}, or build it again: dkms autoinstall -k {1}",
			ZH: "使用软件包 linux-image-{1} 中的模块，或重新构建：dkms autoinstall -k {1}"},
	},
	{
		Code: "MODULE_OTHER_KERNELS_KEY", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signature is genuine and by the build key of kernel {0}; kernel {1} has a key of its own and does not know it",
			ZH: "签名是真实的，出自内核 {0} 的构建密钥；内核 {1} 有自己的密钥，不认识它"},
		Remedy: finding.Text{
			EN: "take the module from the package linux-image-{1}: every build of a kernel has its own key",
			ZH: "使用软件包 linux-image-{1} 中的模块：每次构建的内核都有各自的密钥"},
	},
	{
		Code: "MODULE_SIGNATURE_UNSUPPORTED", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signature uses what this kernel cannot compute, so it counts as not verified",
			ZH: "签名使用了此内核无法计算的算法，因此视为未验证"},
		Remedy: finding.Text{
			EN: "sign with an RSA key and sha256, which every kernel has: vouchsafe module sign --hash sha256 --key KEY --cert CERT FILE",
			ZH: "请用 RSA 密钥和 sha256 签名，所有内核都支持：vouchsafe module sign --hash sha256 --key KEY --cert CERT 文件"},
	},
	{
		Code: "MODULE_SIGNED_ATTRIBUTES", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the signature has signed attributes, which the kernel forbids for modules: it is refused in every mode",
			ZH: "签名带有签名属性（signed attributes），内核不允许模块这样签名：无论何种模式都会被拒绝"},
		Remedy: finding.Text{
			EN: "sign without them: vouchsafe module sign does, and openssl cms -sign needs -noattr",
			ZH: "签名时去掉这些属性：vouchsafe module sign 不会加入，openssl cms -sign 需要 -noattr"},
	},
	{
		Code: "MODULE_NOT_ELF", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the file is not a kernel module, or its start or section table is damaged",
			ZH: "该文件不是内核模块，或者文件头或节表已损坏"},
		Remedy: finding.Text{
			EN: "reinstall the package that the file belongs to (dpkg -S FILE), or give a .ko file",
			ZH: "重新安装该文件所属软件包（dpkg -S 文件），或指定 .ko 文件"},
	},
	{
		Code: "MODULE_SIGNER_EXPIRED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signer's certificate ended on {0}. The kernel does not look at dates and loads the module; auditors do look",
			ZH: "签名者证书已于 {0} 过期。内核不检查日期，仍会加载模块；但审计会检查"},
		Remedy: finding.Text{
			EN: "vouchsafe module key rotate, then sign again with the new leaf",
			ZH: "执行 vouchsafe module key rotate，然后用新的叶子密钥重新签名"},
	},
	{
		Code: "MODULE_SIGNER_NOT_YET_VALID", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signer's certificate begins on {0}; either this clock is behind or the one that made it was ahead",
			ZH: "签名者证书自 {0} 起才有效；本机时钟偏慢，或签发机器的时钟偏快"},
		Remedy: finding.Text{
			EN: "compare the clock with a time source (chronyc tracking), then look again",
			ZH: "将时钟与时间源核对（chronyc tracking），然后再检查"},
	},
	{
		Code: "MODULE_SIGNATURE_NOT_DER", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signature is not in DER, or bytes stand behind its end: the kernel reads it, and the file can be changed there without harm to the signature",
			ZH: "签名不是 DER 编码，或其后有多余字节：内核能够读取，但此处可被改动而不影响签名"},
		Remedy: finding.Text{
			EN: "sign again: vouchsafe module sign --key KEY --cert CERT FILE",
			ZH: "重新签名：vouchsafe module sign --key KEY --cert CERT 文件"},
	},
	{
		Code: "MODULE_SHA1", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signature is over a SHA-1 hash, for which collisions are made in practice; the kernel still takes it",
			ZH: "签名基于 SHA-1 散列，其碰撞已可实际制造；内核仍然接受"},
		Remedy: finding.Text{
			EN: "sign again: vouchsafe module sign --hash sha256 --key KEY --cert CERT FILE",
			ZH: "重新签名：vouchsafe module sign --hash sha256 --key KEY --cert CERT 文件"},
	},
	{
		Code: "MODULE_SHORT_KEY", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signer's RSA key has less than 2048 bits",
			ZH: "签名者的 RSA 密钥不足 2048 位"},
		Remedy: finding.Text{
			EN: "make a new key: vouchsafe module key rotate",
			ZH: "生成新密钥：vouchsafe module key rotate"},
	},
	{
		Code: "MODULE_TWO_SIGNERS", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "more than one signer: one trusted signer is enough for the kernel, and tools that show the first one may show the other",
			ZH: "有多个签名者：内核只需其中一个可信即可，而只显示第一个签名者的工具可能显示的是另一个"},
		Remedy: finding.Text{
			EN: "sign again with one key: vouchsafe module sign replaces all signatures",
			ZH: "用单一密钥重新签名：vouchsafe module sign 会替换所有签名"},
	},
	{
		Code: "MODULE_HASH_FORBIDDEN", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the firmware's dbx or shim's MokListX rules out exactly this file: Debian's and SUSE's kernels refuse it although its signature is good",
			ZH: "固件的 dbx 或 shim 的 MokListX 禁止了这个文件：签名虽有效，Debian 和 SUSE 的内核仍会拒绝"},
		Remedy: finding.Text{
			EN: "take a newer version of the module: this one was found to be dangerous; mokutil --dbx and mokutil --mokx --list-enrolled show the lists",
			ZH: "请使用该模块的更新版本：此版本已被认定为危险；mokutil --dbx 和 mokutil --mokx --list-enrolled 可查看列表"},
	},
	{
		Code: "MODULE_CERTIFICATE_FORBIDDEN", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the firmware's dbx or shim's MokListX rules out the signer's certificate, or one above it: this kernel does not trust what it has signed",
			ZH: "固件的 dbx 或 shim 的 MokListX 禁止了签名者或其上级的证书：本内核不信任其签名的内容"},
		Remedy: finding.Text{
			EN: "sign again with another key (vouchsafe module sign); if the key is your own, it counts as stolen: vouchsafe module key rotate",
			ZH: "用其他密钥重新签名（vouchsafe module sign）；若为自己的密钥，应视为已泄露：vouchsafe module key rotate"},
	},
	{
		Code: "MODULE_CERTIFICATE_REVOKED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the firmware's dbx rules out the signer's certificate, or one above it, and this kernel takes no notice: it loads what that key has signed",
			ZH: "固件的 dbx 禁止了签名者或其上级的证书，但本内核不予理会：仍会加载其签名的内容"},
		Remedy: finding.Text{
			EN: "sign again with another key (vouchsafe module sign), and take the old one off the machine: mokutil --delete CERT.der",
			ZH: "用其他密钥重新签名（vouchsafe module sign），并从机器上移除旧证书：mokutil --delete CERT.der"},
	},
	{
		Code: "MODULE_CORRUPT_STREAM", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the compressed file cannot be decompressed, or grows over the limit",
			ZH: "压缩文件无法解压，或解压后超过上限"},
		Remedy: finding.Text{
			EN: "reinstall the package that the file belongs to (dpkg -S FILE)",
			ZH: "重新安装该文件所属软件包（dpkg -S 文件）"},
	},
	{
		Code: "MODULE_NO_KERNEL", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "there is no image of kernel {0}, and only in it is the key that its modules are signed with",
			ZH: "找不到内核 {0} 的映像，而其模块的签名密钥只存在于该映像中"},
		Remedy: finding.Text{
			EN: "give the image: vouchsafe module verify --kernel /boot/vmlinuz-{0} FILE; or remove what is left of the kernel: apt-get purge linux-image-{0}",
			ZH: "指定映像：vouchsafe module verify --kernel /boot/vmlinuz-{0} 文件；或清除该内核的残留：apt-get purge linux-image-{0}"},
	},
	{
		Code: "MODULE_KERNEL_UNREADABLE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the kernel image {0} cannot be read, and only in it is the key that its modules are signed with",
			ZH: "无法读取内核映像 {0}，而其模块的签名密钥只存在于该映像中"},
		Remedy: finding.Text{
			EN: "reinstall the kernel's package (dpkg -S {0}), or name another image with --kernel",
			ZH: "重新安装该内核的软件包（dpkg -S {0}），或用 --kernel 指定其他映像"},
	},
	{
		Code: "MODULE_UNREADABLE", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the file cannot be read, or is too large for a module",
			ZH: "无法读取该文件，或其大小超出模块的上限"},
		Remedy: finding.Text{
			EN: "look at the file and its rights: ls -l FILE; run the command as root",
			ZH: "检查文件及其权限：ls -l 文件；以 root 身份运行此命令"},
	},
	{
		Code: "MODULE_KEY_ROTATION_DUE", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the signing key's certificate ends on {0}",
			ZH: "签名密钥的证书将于 {0} 到期"},
		Remedy: finding.Text{
			EN: "vouchsafe module key rotate; nothing needs to be enrolled again",
			ZH: "执行 vouchsafe module key rotate；无需重新导入"},
	},
}...)
