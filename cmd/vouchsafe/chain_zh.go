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
	{regexp.MustCompile(`^certificates stand as (.*); the path is (.*)$`), "证书顺序为 $1；路径应为 $2"},
	{regexp.MustCompile(`^it stands before every certificate that it certifies$`), "它排在所有由它签发的证书之前"},
	{regexp.MustCompile(`^(.*) at the start$`), "$1，在开头"},
	{regexp.MustCompile(`^(.*) at the end$`), "$1，在末尾"},
	{regexp.MustCompile(`^(.*) in the middle(?: \((\d+) times\))?$`), "$1，在中间 $2"},
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
	{regexp.MustCompile(`^a line of (\d+) characters; 64 is the form(?: \((\d+) times\))?$`), "一行有 $1 个字符；规范为 64"},
	{regexp.MustCompile(`^lines end in CR LF(?: \((\d+) times\))?$`), "行以 CR LF 结尾"},
	{regexp.MustCompile(`^lines end in CR alone(?: \((\d+) times\))?$`), "行以单独的 CR 结尾"},
	{regexp.MustCompile(`^END and BEGIN share a line(?: \((\d+) times\))?$`), "END 与 BEGIN 在同一行"},
	{regexp.MustCompile(`^the whole block stands on one line(?: \((\d+) times\))?$`), "整个块在同一行"},
	{regexp.MustCompile(`^an empty line inside the block(?: \((\d+) times\))?$`), "块内有空行"},
	{regexp.MustCompile(`^(\d+) blanks before the base64(?: \((\d+) times\))?$`), "base64 前有 $1 个空格"},
	{regexp.MustCompile(`^blanks at the end of a line(?: \((\d+) times\))?$`), "行尾有空格"},
	{regexp.MustCompile(`^the two characters \\n stand where a line should end(?: \((\d+) times\))?$`), "换行处写着 \\n 两个字符"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\), locked by a password$`), "PKCS #12 文件（.pfx、.p12），有密码"},
	{regexp.MustCompile(`^a PKCS #12 file \(\.pfx, \.p12\); the password given does not open it$`), "PKCS #12 文件（.pfx、.p12），所给密码无法打开"},
	{regexp.MustCompile(`^a PKCS #7 bundle \(\.p7b\)$`), "PKCS #7 包（.p7b）"},
	{regexp.MustCompile(`^all are CA certificates$`), "全部是 CA 证书"},
	{regexp.MustCompile(`^the only certificate is a CA's$`), "唯一的证书是 CA 证书"},
	{regexp.MustCompile(`^pathLenConstraint (\d+), and (\d+) intermediates below it$`), "pathLenConstraint 为 $1，其下有 $2 个中间证书"},
	{regexp.MustCompile(`^the (BEGIN|END) line is missing(?: \((\d+) times\))?$`), "缺少 $1 行"},
	{regexp.MustCompile(`^nothing else about the leaf can be checked$`), "叶证书的其他方面无法检查"},
	{regexp.MustCompile(`^clients say: (.*)$`), "客户端报：$1"},
	{regexp.MustCompile(`^servers say: (.*)$`), "服务器报：$1"},
	{regexp.MustCompile(`^servers take this one, the first, as their own$`), "服务器会把第一个（即它）当作自己的证书"},
	{regexp.MustCompile(`^(EXPIRED|NOT_YET_VALID) on (\d+) certificates$`), "$2 个证书报 $1"},
}

// seenIn is evidence in the person's language.
func (a *app) seenIn(s string) string {
	if a.say("", "zh") == "" {
		return s
	}
	for _, e := range evidenceZH {
		if m := e.seen.FindStringSubmatchIndex(s); m != nil {
			return string(e.seen.ExpandString(nil, e.zh, s, m))
		}
	}
	return s
}
