package main

import "regexp"

// evidenceZH says what was seen in Chinese, for a person; JSON keeps the
// evidence as it is, in one form for every language. What is quoted from other
// software stays as that software says it. $1, $2 … are what was found.
var evidenceZH = []struct {
	seen *regexp.Regexp
	zh   string
}{
	{regexp.MustCompile(`^not in the file, but in the pool: (.*)$`), "文件中没有，证书库中有：$1"},
	{regexp.MustCompile(`^trusted by the keystore, but not in the chain of its key: (.*)$`), "keystore 信任它，但密钥的证书链中没有：$1"},
	{regexp.MustCompile(`^a Java keystore \((\w+)\)(?: with (\d+) key entries)?(.*)$`), "Java keystore（$1）$2$3"},
	{regexp.MustCompile(`^(\d+) key entries$`), "$1 个密钥条目"},
	{regexp.MustCompile(`^no certificate with the subject (.*?)(?:; to be fetched from (.*))?$`), "没有主体为 $1 的证书 $2"},
	{regexp.MustCompile(`^issuer is (.*); the key is that of (.*)$`), "签发者写的是 $1；密钥属于 $2"},
	{regexp.MustCompile(`^(\d+) bytes are there of (\d+)$`), "应有 $2 字节，只有 $1 字节"},
	{regexp.MustCompile(`^only its last (\d+) bytes are there$`), "只有结尾的 $1 字节"},
	{regexp.MustCompile(`^it does not begin as DER does$`), "开头不符合 DER 格式"},
	{regexp.MustCompile(`^before every line: (.*)$`), "每行之前都有：$1"},
	{regexp.MustCompile(`^HTML tags: (.*)$`), "HTML 标签：$1"},
	{regexp.MustCompile(`^percent-encoded, as in a URL: %0A stands where a line should end`), "像 URL 一样经过百分号编码：换行处是 %0A"},
	{regexp.MustCompile(`^certificates stand as (.*); the path is (.*)$`), "证书顺序为 $1；路径应为 $2"},
	{regexp.MustCompile(`^it stands before every certificate that it certifies$`), "它排在所有由它签发的证书之前"},
	{regexp.MustCompile(`^(.*) at the start$`), "$1，在开头"},
	{regexp.MustCompile(`^(.*) at the end$`), "$1，在末尾"},
	{regexp.MustCompile(`^(.*) in the middle$`), "$1，在中间"},
	{regexp.MustCompile(`^no path from (.*) uses it$`), "从 $1 出发的任何路径都不使用它"},
	{regexp.MustCompile(`^self-signed, and clients have it$`), "自签名，客户端已有"},
	{regexp.MustCompile(`^self-signed, SHA-256 (.*), not among (\d+) trusted roots$`), "自签名，SHA-256 $1，不在 $2 个受信根之中"},
	{regexp.MustCompile(`^its issuer (.*) is neither in the file nor in the pool nor among (\d+) trusted roots$`), "签发者 $1 不在文件、证书库和 $2 个受信根之中"},
	{regexp.MustCompile(`^certificate (\d+) is certificate (\d+) again(, .*)?$`), "证书 $1 与证书 $2 相同$3"},
	{regexp.MustCompile(`^none of the CRLs given is by its issuer (.*)$`), "所给的 CRL 都不是由其签发者 $1 签发的"},
	{regexp.MustCompile(`^the CRL of its issuer is of another distribution point, (.*)$`), "其签发者的 CRL 属于另一个分发点：$1"},
	{regexp.MustCompile(`^the CRL of its issuer is for (.*) only$`), "其签发者的 CRL 只适用于 $1"},
	{regexp.MustCompile(`^the CRLs given tell of some reasons for revocation only$`), "所给的 CRL 只涵盖部分吊销原因"},
	{regexp.MustCompile(`^a delta CRL of (.*) tells only what changed since CRL number (.*), and that list is not here$`), "$1 的增量 CRL 只说明 CRL 编号 $2 之后的变化，而那份列表不在这里"},
	{regexp.MustCompile(`^the CRL of (.*) is out of date: its next update was due on (.*)$`), "$1 的 CRL 已过期：应于 $2 更新"},
	{regexp.MustCompile(`^the CRL of (.*) is out of date: it is from (.*)$`), "$1 的 CRL 来自未来：$2"},
	{regexp.MustCompile(`^the signature of the CRL is not by (.*)$`), "CRL 的签名不是 $1 的"},
	{regexp.MustCompile(`^negative serial number$`), "序列号为负数"},
	{regexp.MustCompile(`^valid until (.*); the check is at (.*)$`), "有效期至 $1；检查时间 $2"},
	{regexp.MustCompile(`^valid from (.*); the check is at (.*)$`), "自 $1 起有效；检查时间 $2"},
	{regexp.MustCompile(`^all (\d+) certificates fail the same way; the check is at ([^,]*)(?:, the leaf is valid from (.*) to (.*))?$`), "全部 $1 个证书以同样方式失败；检查时间 $2；叶证书有效期 $3 至 $4"},
	{regexp.MustCompile(`^asked for (.*); the certificate has (.*)$`), "请求的是 $1；证书中有 $2"},
	{regexp.MustCompile(`^the key's public half is not the certificate's$`), "私钥对应的公钥不是证书中的公钥"},
	{regexp.MustCompile(`^issuer (.*) is there, and its key does not verify the signature$`), "签发者 $1 在此，但其密钥无法验证签名"},
	{regexp.MustCompile(`^subjectKeyIdentifier (.*), but (.*) names the authority (.*)$`), "主体密钥标识为 $1，而 $2 指明的签发者标识为 $3"},
	{regexp.MustCompile(`^its key does not verify the signature of (.*)$`), "其密钥无法验证 $1 的签名"},
	{regexp.MustCompile(`^issuer (.*) leads to no trusted root; the edition by (.*) does$`), "签发者 $1 不通向受信根；由 $2 签发的版本可以"},
	{regexp.MustCompile(`^signed by (.*), valid until (.*)$`), "由 $1 签发，有效期至 $2"},
	{regexp.MustCompile(`^signed with (.*)$`), "签名算法 $1"},
	{regexp.MustCompile(`^revoked on (.*), says (.*)$`), "于 $1 被吊销（来源：$2）"},
	{regexp.MustCompile(`^issuer and subject are the same, and its own key signed it$`), "签发者与主体相同，由自己的密钥签名"},
	{regexp.MustCompile(`^a line of (\d+) characters; 64 is the form$`), "一行有 $1 个字符；规范为 64"},
	{regexp.MustCompile(`^lines end in CR LF$`), "行以 CR LF 结尾"},
	{regexp.MustCompile(`^lines end in CR alone$`), "行以单独的 CR 结尾"},
	{regexp.MustCompile(`^END and BEGIN share a line$`), "END 与 BEGIN 在同一行"},
	{regexp.MustCompile(`^the whole block stands on one line$`), "整个块在同一行"},
	{regexp.MustCompile(`^an empty line inside the block$`), "块内有空行"},
	{regexp.MustCompile(`^(\d+) blanks before the base64$`), "base64 前有 $1 个空格"},
	{regexp.MustCompile(`^blanks at the end of a line$`), "行尾有空格"},
	{regexp.MustCompile(`^the two characters \\n stand where a line should end$`), "换行处写着 \\n 两个字符"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\), locked by a password$`), "PKCS #12 文件（.pfx、.p12），有密码"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\); the password given does not open it$`), "PKCS #12 文件（.pfx、.p12），所给密码无法打开"},
	{regexp.MustCompile(`^a PKCS #7 bundle \(\.p7b\)$`), "PKCS #7 包（.p7b）"},
	{regexp.MustCompile(`^all are CA certificates$`), "全部是 CA 证书"},
	{regexp.MustCompile(`^the only certificate is a CA's$`), "唯一的证书是 CA 证书"},
	{regexp.MustCompile(`^pathLenConstraint (\d+), and (\d+) intermediates below it$`), "pathLenConstraint 为 $1，其下有 $2 个中间证书"},
	{regexp.MustCompile(`^the (BEGIN|END) line is missing$`), "缺少 $1 行"},
	{regexp.MustCompile(`^nothing else about the leaf can be checked$`), "叶证书的其他方面无法检查"},
	{regexp.MustCompile(`^clients say: (.*)$`), "客户端报：$1"},
	{regexp.MustCompile(`^servers say: (.*)$`), "服务器报：$1"},
	{regexp.MustCompile(`^servers take this one, the first, as their own$`), "服务器会把第一个（即它）当作自己的证书"},
	{regexp.MustCompile(`^(EXPIRED|NOT_YET_VALID) on (\d+) certificates$`), "$2 个证书报 $1"},
	{regexp.MustCompile(`^the URL-safe alphabet, - and _ for \+ and /$`), "URL 安全字母表：用 - 和 _ 代替 + 和 /"},
	{regexp.MustCompile(`^(".*"): dashes that are not hyphens, or blanks among them$`), "$1：破折号不是连字符，或其间有空格"},
	{regexp.MustCompile(`^(".*"): (\d+) dashes before and (\d+) after, not 5 and 5$`), "$1：前面 $2 个、后面 $3 个连字符，应各为 5 个"},
	{regexp.MustCompile(`^(".*"): blanks missing or too many$`), "$1：缺少空格或空格过多"},
	{regexp.MustCompile(`^(".*"): small letters$`), "$1：小写字母"},
	{regexp.MustCompile(`^(".*"): no dashes$`), "$1：没有连字符"},
	{regexp.MustCompile(`^BEGIN (.*) ends as END (.*)$`), "以 BEGIN $1 开始，却以 END $2 结束"},
	{regexp.MustCompile(`^keyUsage without keyCertSign$`), "keyUsage 中没有 keyCertSign"},
	{regexp.MustCompile(`^quotes around the base64$`), "base64 前后有引号"},
	{regexp.MustCompile(`^characters that are not base64: (.*)$`), "有不属于 base64 的字符：$1"},
	{regexp.MustCompile(`^critical extension (.*)$`), "关键扩展 $1"},
	{regexp.MustCompile(`^signed by (.*)$`), "由 $1 签发"},
	{regexp.MustCompile(`^certificate request$`), "证书请求"},
	{regexp.MustCompile(`^private key$`), "私钥"},
	{regexp.MustCompile(`^encrypted private key$`), "加密的私钥"},
	{regexp.MustCompile(`^public key$`), "公钥"},
	{regexp.MustCompile(`^binary DER, first bytes (.*)$`), "二进制 DER，开头字节为 $1"},
	{regexp.MustCompile(`^binary DER of another kind: (.*)$`), "另一种二进制 DER：$1"},
	{regexp.MustCompile(`^a PEM text between BEGIN (.*) and END, as certutil -encode makes it$`), "BEGIN $1 与 END 之间又是一段 PEM 文本（certutil -encode 会这样生成）"},
	{regexp.MustCompile(`^base64 of a PEM text: (.*)$`), "PEM 文本的 base64：$1"},
	{regexp.MustCompile(`^base64 without BEGIN and END: (.*)$`), "没有 BEGIN 和 END 的 base64：$1"},
	{regexp.MustCompile(`^base64 of base64$`), "base64 的 base64"},
	{regexp.MustCompile(`^extendedKeyUsage (.*) without (.*)$`), "extendedKeyUsage 为 $1，没有 $2"},
	{regexp.MustCompile(`^(\d+) bytes, nothing in them$`), "$1 字节，没有内容"},
	{regexp.MustCompile(`^(\d+) bytes; the limit is (\d+)$`), "$1 字节；上限为 $2"},
	{regexp.MustCompile(`^(BEGIN .*) with nothing in it$`), "$1 之后没有内容"},
	{regexp.MustCompile(`^BEGIN and base64 share a line$`), "BEGIN 与 base64 在同一行"},
	{regexp.MustCompile(`^base64 and END share a line$`), "base64 与 END 在同一行"},
	{regexp.MustCompile(`^several certificates in one block$`), "一个块中有多个证书"},
	{regexp.MustCompile(`^(U\+[0-9A-F]+) (.*)$`), "字符 $1（$2）"},
	{regexp.MustCompile(`^TLS feature status_request, and no OCSP address$`), "TLS feature status_request，但没有 OCSP 地址"},
	{regexp.MustCompile(`^(.*), but (.*) excludes (.*)$`), "$1，但 $2 排除了 $3"},
	{regexp.MustCompile(`^(.*), but (.*) permits only others$`), "$1，但 $2 只允许其他名称"},
	{regexp.MustCompile(`^blanks where lines should end$`), "换行处是空格"},
	{regexp.MustCompile(`^basicConstraints says CA:FALSE$`), "basicConstraints 为 CA:FALSE"},
	{regexp.MustCompile(`^basicConstraints is missing$`), "没有 basicConstraints"},
	{regexp.MustCompile(`^starts with (".*".*)$`), "开头为 $1"},
	{regexp.MustCompile(`^no subjectAltName; only CN=(.*)$`), "没有 subjectAltName，只有 CN=$1"},
	{regexp.MustCompile(`^no subjectAltName$`), "没有 subjectAltName"},
	{regexp.MustCompile(`^(\d+) zero bytes after the certificate(?: inside the block)?$`), "证书之后有 $1 个零字节"},
	{regexp.MustCompile(`^a byte 00 at the end$`), "末尾有字节 00"},
	{regexp.MustCompile(`^a byte 00 in the text$`), "文本中有字节 00"},
	{regexp.MustCompile(`^(\d+) bytes after the certificate(.*)$`), "证书之后有 $1 字节多余内容"},
	{regexp.MustCompile(`^besides (.*)$`), "另有 $1"},
	{regexp.MustCompile(`^UTF-16 (big|little)-endian$`), "UTF-16（$1-endian）"},
	{regexp.MustCompile(`^RSA with (\d+) bits$`), "$1 位 RSA"},
	{regexp.MustCompile(`^elliptic curve with (\d+) bits$`), "$1 位椭圆曲线"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\) with (a key|\d+ keys) and (\d+) certificates$`), "PKCS #12 文件（.pfx、.p12），含密钥和 $2 个证书"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\) without a key, with (\d+) certificates$`), "PKCS #12 文件（.pfx、.p12），无密钥，含 $1 个证书"},
	{regexp.MustCompile(`^it wants (\d+) rounds of key derivation; (\d+) is far more than anybody uses$`), "要求 $1 轮密钥派生；$2 已远超任何实际用量"},
	{regexp.MustCompile(`^the same certificate, with a good signature, is at hand$`), "同一证书的完好版本在手"},
	{regexp.MustCompile(`^issuer and subject are the same, but its key or its signature is of a kind that we do not know$`), "签发者与主体相同，但密钥或签名的类型未知"},
	{regexp.MustCompile(`^(.*); its issuer is not at hand to say whether it was signed so$`), "$1；签发者不在手，无法判断签名时是否如此"},
	{regexp.MustCompile(`^without a server name it sends certificate (.*), with one (.*)$`), "不带服务器名时发送证书 $1，带服务器名时发送 $2"},
	{regexp.MustCompile(`^(.*) sends certificate (.*), (.*) sends (.*)$`), "$1 发送证书 $2，$3 发送 $4"},
	{regexp.MustCompile(`^(.*) gets (\d+) certificates, (.*) gets (\d+)$`), "$1 得到 $2 个证书，$3 得到 $4 个"},
	{regexp.MustCompile(`^the file's first certificate is (.*), the server \((.*)\) sends (.*), issued by (.*)$`), "文件中第一个证书是 $1，服务器（$2）发送的是 $3，签发者为 $4"},
	{regexp.MustCompile(`^the same leaf, but (\d+) certificates in the file and (\d+) from the server$`), "叶证书相同，但文件中有 $1 个证书，服务器发送 $2 个"},
	{regexp.MustCompile(`^(\d+) bytes; the initial window takes (\d+)$`), "$1 字节；初始窗口为 $2"},
	{regexp.MustCompile(`^no OCSP response was stapled$`), "没有装订 OCSP 响应"},
}

// seenIn is evidence in the person's language.
func (a *app) seenIn(s string) string {
	if a.say("", "zh") == "" {
		return s
	}
	rest, times := s, ""
	if m := seenTimes.FindStringSubmatch(s); m != nil {
		rest, times = m[1], "（共 "+m[2]+" 次）"
	}
	for _, e := range evidenceZH {
		if m := e.seen.FindStringSubmatchIndex(rest); m != nil {
			return string(e.seen.ExpandString(nil, e.zh, rest, m)) + times
		}
	}
	return rest + times
}

// seenTimes ends the evidence of what was seen more than once.
var seenTimes = regexp.MustCompile(`^(.*) \((\d+) times\)$`)
