package modkeys

import "github.com/vouchsafe/vouchsafe/finding"

// Refusals is every reason why this package says no. docs/findings/service.md says more.
var Refusals = finding.Catalog{
	{Code: "MODULE_KEYS_MISSING", Severity: finding.Error,
		Meaning: finding.Text{EN: "This service has no keys for kernel modules yet.", ZH: "本服务尚无内核模块签名密钥。"},
		Remedy:  finding.Text{EN: "vouchsafe module key init", ZH: "vouchsafe module key init"}},
	{Code: "MODULE_KEYS_EXIST", Severity: finding.Error,
		Meaning: finding.Text{EN: "There is a CA for modules already; a new one would have to be enrolled on every machine.", ZH: "已有模块专用 CA；新的 CA 需要在每台机器上重新导入。"},
		Remedy:  finding.Text{EN: "vouchsafe module key rotate makes a new signing key under it", ZH: "vouchsafe module key rotate 可在其下生成新的签名密钥"}},
	{Code: "MODULE_KEY_ROTATED", Severity: finding.Error,
		Meaning: finding.Text{EN: "The signing key was replaced between asking for its certificate and signing.", ZH: "在取得证书与签名之间，签名密钥已被替换。"},
		Remedy:  finding.Text{EN: "Sign again", ZH: "请重新签名"}},
}
