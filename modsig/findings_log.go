package modsig

import "github.com/vouchsafe/vouchsafe/finding"

// logFindings are what only a kernel's log can tell.
var logFindings = finding.Catalog{
	{
		Code: "MODULE_NOT_VERIFIED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "a module without a signature, or with one by a key the kernel does not have, was loaded; the kernel is tainted (E) until the next boot. The line comes once per boot: other modules may be so too",
			ZH: "加载了没有签名、或签名密钥不在内核密钥环中的模块；内核在下次启动前一直处于受污染状态（E）。此行每次启动只出现一次：可能还有其他模块如此"},
		Remedy: finding.Text{
			EN: "vouchsafe module scan names them all and says which of the two it is; under Secure Boot they will not load",
			ZH: "vouchsafe module scan 会列出全部此类模块并说明原因；在安全启动下它们将无法加载"},
	},
	{
		Code: "MODULE_LOCKDOWN", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the kernel is locked down, and refused a module that it could not verify: unsigned, or by a key it does not have",
			ZH: "内核处于锁定（lockdown）状态，拒绝了无法验证的模块：没有签名，或签名密钥不在密钥环中"},
		Remedy: finding.Text{
			EN: "vouchsafe module verify --mode integrity FILE says which; then sign it: vouchsafe module sign --key KEY --cert CERT FILE",
			ZH: "vouchsafe module verify --mode integrity 文件 可说明原因；然后签名：vouchsafe module sign --key KEY --cert CERT 文件"},
	},
	{
		Code: "MODULE_SYMBOL_VERSION", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the module was built for another kernel: {0} is not the same there",
			ZH: "该模块为另一个内核构建：{0} 与本内核不一致"},
		Remedy: finding.Text{
			EN: "build it for this one: dkms autoinstall -k $(uname -r); is it a packaged module, depmod -a and reboot into the kernel it belongs to",
			ZH: "为本内核重新构建：dkms autoinstall -k $(uname -r)；若为软件包中的模块，执行 depmod -a 并重启到其所属内核"},
	},
	{
		Code: "MODULE_CERT_NOT_LOADED", Severity: finding.Warning,
		Meaning: finding.Text{
			EN: "the kernel could not load an enrolled certificate (error {0}): most often an ECDSA key in a kernel without ECDSA built in. Modules signed with it count as signed by an unknown key",
			ZH: "内核无法加载一个已导入的证书（错误 {0}）：最常见的原因是内核未内置 ECDSA 而证书使用 ECDSA 密钥。用它签名的模块会被当作未知密钥"},
		Remedy: finding.Text{
			EN: "enrol an RSA key: vouchsafe module key init --kind rsa-3072; mokutil --list-enrolled shows what is enrolled",
			ZH: "改为导入 RSA 密钥：vouchsafe module key init --kind rsa-3072；mokutil --list-enrolled 可查看已导入的证书"},
	},
	{
		Code: "MODULE_BTF_MISMATCH", Severity: finding.Info,
		Meaning: finding.Text{
			EN: "the module's type information is from another build of the kernel; it is loaded all the same, without that information",
			ZH: "模块的类型信息来自另一次内核构建；模块仍会加载，但不含类型信息"},
		Remedy: finding.Text{
			EN: "build the module against the running kernel's headers, should tracing tools need the types",
			ZH: "若跟踪工具需要类型信息，请用运行内核的头文件重新构建模块"},
	},
	{
		Code: "MODULE_OUT_OF_TREE", Severity: finding.Info,
		Meaning: finding.Text{
			EN: "a module from outside the kernel's tree taints the kernel (O), however well it is signed",
			ZH: "来自内核源码树之外的模块会使内核被标记为受污染（O），与签名是否有效无关"},
		Remedy: finding.Text{
			EN: "nothing to do: it only tells kernel developers where a crash may come from",
			ZH: "无需处理：它只是告诉内核开发者崩溃可能的来源"},
	},
	{
		Code: "MODULE_REJECTED_SILENTLY", Severity: finding.Error,
		Meaning: finding.Text{
			EN: "the kernel answered EKEYREJECTED. With a line 'Loading of … is rejected' beside it, enforcement refused the module; without one, the signature is there and wrong: the module was changed or damaged",
			ZH: "内核返回 EKEYREJECTED。若日志中同时有 “Loading of … is rejected”，则是强制签名策略拒绝；若没有，则说明签名存在但不正确：模块被修改或损坏"},
		Remedy: finding.Text{
			EN: "vouchsafe module verify FILE tells the two apart",
			ZH: "vouchsafe module verify 文件 可区分这两种情况"},
	},
}
