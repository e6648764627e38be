package chain

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Class is what it takes to mend something.
type Class string

const (
	ClassNone    Class = "none"    // nothing to mend, or nothing that a file could mend
	ClassLocal   Class = "local"   // the file itself is enough
	ClassPool    Class = "pool"    // a certificate must come from a pool of intermediates
	ClassNetwork Class = "network" // a certificate must be fetched
	ClassReissue Class = "reissue" // only the CA can, with a new certificate
	ClassInput   Class = "input"   // this is the wrong file
)

// code is one entry of the knowledge base.
type code struct {
	name     string
	severity finding.Severity
	class    Class
	meaning  finding.Text
	remedy   finding.Text
}

func entry(name string, s finding.Severity, c Class, meaning, meaningZH, remedy, remedyZH string) code {
	return code{name, s, c, finding.Text{EN: meaning, ZH: meaningZH}, finding.Text{EN: remedy, ZH: remedyZH}}
}

// codes lists every code in the order of root causes: when several things are
// wrong, what stands further up is told first. Codes are never reused.
var codes = slices.Concat(inputCodes, dressCodes, trustCodes, serverCodes, orderCodes, bodyCodes, lintCodes)

// Catalog is every diagnosis this package can make.
var Catalog = func() finding.Catalog {
	var c finding.Catalog
	for _, e := range codes {
		c = append(c, finding.Entry{Code: e.name, Severity: e.severity, Meaning: e.meaning, Remedy: e.remedy})
	}
	return c
}()

// rank is the place of a code among root causes.
func rank(name string) int {
	return slices.IndexFunc(codes, func(c code) bool { return c.name == name })
}

// ClassOf says what it takes to mend a code; "" for a code that does not exist.
func ClassOf(name string) Class {
	if i := rank(name); i >= 0 {
		return codes[i].class
	}
	return ""
}

const (
	e_ = finding.Error
	w_ = finding.Warning
	i_ = finding.Info
)

const fixEN, fixZH = "vouchsafe chain fix FILE -o fixed.pem", "vouchsafe chain fix FILE -o fixed.pem"

// inputCodes: this is not a certificate file at all.
var inputCodes = []code{
	entry("TOO_LARGE", e_, ClassInput, "The file is far larger than any certificate chain; it was not read.", "文件远大于任何证书链，未读取。", "Give the certificate file itself; a bundle of roots or intermediates goes to --roots or --intermediates.", "请给出证书文件本身；根证书或中间证书集合请用 --roots 或 --intermediates。"),
	entry("TOO_MANY", e_, ClassInput, "The file holds more certificates than a chain can have; the rest was not read.", "文件中的证书数量超过一条链可能的数量，其余未读取。", "Give one server's chain; a bundle goes to --roots or --intermediates.", "请给出单个服务器的证书链；证书集合请用 --roots 或 --intermediates。"),
	entry("EMPTY", e_, ClassInput, "The file is empty: whatever wrote it stopped before the first byte, or the disk was full.", "文件是空的：写入它的程序在第一个字节之前就停止了，或磁盘已满。", "Copy the certificate again, or download it again from the CA.", "请重新复制证书，或从 CA 重新下载。"),
	entry("HTML", e_, ClassInput, "This is a web page, most likely an error or login page saved in place of a certificate.", "这是一个网页，很可能是代替证书保存下来的错误页或登录页。", "Open the file in a text editor, read what the page says, and download the certificate again.", "用文本编辑器打开文件，看看网页写了什么，然后重新下载证书。"),
	entry("CSR_NOT_CERT", e_, ClassInput, "This is a certificate request (CSR): it was sent to the CA, but the CA's answer is not here.", "这是证书请求（CSR）：它是发给 CA 的，而 CA 的答复不在这里。", "Send the request to the CA and install the certificate it returns.", "把请求提交给 CA，安装 CA 返回的证书。"),
	entry("PUBLIC_KEY_NOT_CERT", e_, ClassInput, "This is a bare public key; nobody vouches for it, so no client can check it.", "这只是一个公钥；没有人为它担保，客户端无从验证。", "Use the certificate that was issued for this key.", "请使用为该密钥签发的证书。"),
	entry("PRIVATE_KEY_NOT_CERT", e_, ClassInput, "This is a private key, not a certificate. It must not be handed out.", "这是私钥，不是证书。绝不能外传。", "Name the certificate file instead; if this file was ever published, have the certificate revoked and make a new key.", "请改用证书文件；如果此文件曾经公开过，请吊销证书并生成新密钥。"),
	entry("NOT_A_CERTIFICATE", e_, ClassInput, "Nothing in this file is a certificate, in any form we know.", "文件中没有任何已知形式的证书。", "Look at its first lines with: head -c 200 FILE", "用 head -c 200 文件 查看开头内容。"),
	entry("LEAF_MISSING", e_, ClassInput, "Only CA certificates are here; the server's own certificate is missing.", "这里只有 CA 证书，缺少服务器自己的证书。", "Put the certificate that was issued for your name first in the file.", "把为你的域名签发的证书放在文件最前面。"),
	entry("KEY_MISMATCH", e_, ClassInput, "The private key does not belong to the leaf certificate: no TLS server starts with this pair.", "私钥与叶证书不匹配：任何 TLS 服务器都无法用这一对启动。", "Find the key from which the CSR was made, or make a new key and have the certificate reissued.", "找出生成 CSR 时所用的私钥，或生成新密钥并重新签发证书。"),
}

// dressCodes: the certificates are there, in a form that clients do not read.
var dressCodes = []code{
	entry("UTF16", e_, ClassLocal, "The text is UTF-16, as Windows Notepad or PowerShell's > write it; TLS software reads bytes and finds no BEGIN line.", "文本是 UTF-16 编码（Windows 记事本或 PowerShell 的 > 会这样写）；TLS 软件按字节读取，找不到 BEGIN 行。", fixEN+"; in PowerShell use Out-File -Encoding ascii", fixZH+"；在 PowerShell 中使用 Out-File -Encoding ascii"),
	entry("DOUBLE_BASE64", e_, ClassLocal, "The PEM text was encoded in base64 once more, as in a Kubernetes secret or an environment variable.", "PEM 文本又被 base64 编码了一次，例如 Kubernetes Secret 或环境变量中的形式。", fixEN+"; or decode it once: base64 -d FILE", fixZH+"；或解码一次：base64 -d 文件"),
	entry("NO_PEM_HEADER", e_, ClassLocal, "The base64 is there, but the BEGIN and END lines around it are not.", "有 base64 内容，但前后没有 BEGIN 和 END 行。", fixEN, fixZH),
	entry("ESCAPED_NEWLINES", e_, ClassLocal, "Line ends are written as the two characters \\n, as in JSON or an environment variable; PEM readers see one endless line.", "换行被写成了 \\n 两个字符（如 JSON 或环境变量中），PEM 读取程序只看到一行。", fixEN+"; when exporting use: printf '%b' or jq -r", fixZH+"；导出时使用 printf '%b' 或 jq -r"),
	entry("NEWLINES_LOST", e_, ClassLocal, "All line ends are gone: BEGIN, base64 and END stand on one line, which PEM readers skip.", "所有换行都丢失了：BEGIN、base64 和 END 在同一行，PEM 读取程序会跳过。", fixEN+"; in a shell quote the variable: echo \"$CERT\"", fixZH+"；在 shell 中给变量加引号：echo \"$CERT\""),
	entry("DER_NOT_PEM", e_, ClassLocal, "The file is binary DER; nginx, Apache, HAProxy and Go want PEM text. Windows and Java read both.", "文件是二进制 DER；nginx、Apache、HAProxy 和 Go 需要 PEM 文本。Windows 和 Java 两种都能读。", fixEN, fixZH),
	entry("PKCS7", e_, ClassLocal, "The certificates are in a PKCS #7 bundle (.p7b), which Windows and Java read, and TLS servers do not.", "证书在 PKCS #7 包（.p7b）中，Windows 和 Java 能读，TLS 服务器不能读。", fixEN, fixZH),
	entry("PKCS12", e_, ClassLocal, "The certificates are in a PKCS #12 file (.pfx, .p12), which holds the private key too; nginx, Apache and HAProxy do not read it.", "证书在 PKCS #12 文件（.pfx、.p12）中，其中还有私钥；nginx、Apache 和 HAProxy 不能读取。", fixEN+" --password-file PW", fixZH+" --password-file 密码文件"),
	entry("JKS", e_, ClassLocal, "The certificates are in a Java keystore (JKS or JCEKS); only Java reads it.", "证书在 Java keystore（JKS 或 JCEKS）中，只有 Java 能读。", fixEN, fixZH),
	entry("MALFORMED_CONTAINER", e_, ClassInput, "The container around the certificates is damaged.", "证书外层的容器已损坏。", "Export or download it again.", "请重新导出或下载。"),
}

// orderCodes: every certificate is good, but not where it should be.
var orderCodes = []code{
	entry("TWO_LEAVES", w_, ClassLocal, "There are two end-entity certificates; a server sends both, and uses the first.", "有两个终端实体证书；服务器会全部发送，并使用第一个。", "Keep the newer one for your key, or let this choose: "+fixEN+" --key KEY", "保留与私钥对应的较新证书，或自动选择："+fixZH+" --key 私钥"),
	entry("ORDER_WRONG", e_, ClassLocal, "The certificates stand in the wrong order. Servers take the first as their own, and strict clients (TLS 1.2 and older, mbedTLS) look for each issuer right after its subject. nginx says \"key values mismatch\", which is only a consequence.", "证书顺序错误。服务器把第一个当作自己的证书，严格的客户端（TLS 1.2 及更早、mbedTLS）要求签发者紧跟在被签发者之后。nginx 报 “key values mismatch” 只是后果。", fixEN, fixZH),
	entry("CROSS_SIGNED_EXPIRED", w_, ClassLocal, "The file carries a cross-signed CA certificate whose own path has expired. New clients ignore it; OpenSSL 1.0, LibreSSL before 3.2 and GnuTLS before 3.6.14 follow it and fail.", "文件带有一个交叉签名的 CA 证书，而它的路径已过期。新客户端会忽略；OpenSSL 1.0、LibreSSL 3.2 之前和 GnuTLS 3.6.14 之前会沿着它走而失败。", fixEN, fixZH),
	entry("ROOT_INCLUDED", w_, ClassLocal, "The root is in the file. Clients have it already, and ignore this one: a kilobyte more in every handshake.", "文件中包含根证书。客户端已有根证书并会忽略它：每次握手多发约 1 KB。", fixEN, fixZH),
	entry("DUPLICATE", w_, ClassLocal, "The same certificate stands here more than once. Most clients bear it; strict ones stop.", "同一证书不止出现一次。多数客户端可以容忍，严格的客户端会中止。", fixEN, fixZH),
	entry("UNRELATED_CERT", w_, ClassLocal, "A certificate here belongs to no path from the leaf: it is sent for nothing, and confuses old clients.", "有一个证书不在叶证书的任何路径上：白白发送，还会干扰旧客户端。", fixEN, fixZH),
	entry("PRIVATE_KEY_IN_CHAIN", w_, ClassLocal, "A private key stands in the certificate file. It works, until the file is handed to somebody as \"just the certificate\".", "证书文件中含有私钥。目前能用，直到有人把它当作“只是证书”外传。", "Keep the key in a file of its own, mode 0600: "+fixEN+" (the key stays out; HAProxy alone wants both in one file)", "把私钥放在单独的文件中，权限 0600："+fixZH+"（输出不含私钥；只有 HAProxy 需要二者同文件）"),
	entry("CROSS_SIGNED_UNUSED", i_, ClassLocal, "A cross-signed CA certificate here leads to a root that is not trusted here; another path is used. Older clients may need it.", "有一个交叉签名的 CA 证书通向这里不信任的根；已使用另一条路径。较旧的客户端可能需要它。", "Keep it if you have such clients; otherwise: "+fixEN, "如有此类客户端可保留；否则："+fixZH),
	entry("KEYSTORE_ENTRIES", i_, ClassNone, "The keystore has {1} keys, each with a chain of its own; only that of {0} was looked at.", "keystore 中有 {1} 个密钥，各有自己的证书链；只检查了 {0} 的链。", "Choose another by its name: vouchsafe chain check --name HOST FILE", "按名称选择其他条目：vouchsafe chain check --name 主机名 FILE"),
	entry("EXTRA_ITEM", i_, ClassLocal, "Something that is not a certificate stands among them; readers skip it.", "其中夹有不是证书的内容，读取程序会跳过。", fixEN, fixZH),
}

// bodyCodes: small injuries of the PEM text.
var bodyCodes = []code{
	entry("BAD_BOUNDARY", e_, ClassLocal, "A BEGIN or END line is not as RFC 7468 wants it: five hyphens, the label in capitals, five hyphens. Readers skip the block, or the rest of the file.", "BEGIN 或 END 行不符合 RFC 7468（五个连字符、大写标签、五个连字符）。读取程序会跳过该块或文件余下部分。", fixEN, fixZH),
	entry("GLUED_BOUNDARIES", e_, ClassLocal, "A boundary shares its line with something else, as when files without a last newline are joined by cat. Readers lose the certificate after it.", "边界行与其他内容在同一行，例如用 cat 连接末尾没有换行的文件。其后的证书会被丢失。", fixEN, fixZH),
	entry("BOM", e_, ClassLocal, "A byte order mark, which Windows editors put at the start of a text and joining files leaves in the middle. OpenSSL and nginx skip it; Go, step and Java miss the certificate behind it.", "字节顺序标记（BOM）：Windows 编辑器写在文本开头，拼接文件后会留在中间。OpenSSL 和 nginx 会跳过；Go、step 和 Java 会漏掉其后的证书。", fixEN, fixZH),
	entry("CR_LINE_ENDS", e_, ClassLocal, "Lines end in CR alone, as on old Macs; readers see one line.", "行以单独的 CR 结尾（旧 Mac 格式）；读取程序只看到一行。", fixEN, fixZH),
	entry("NUL_BYTES", e_, ClassLocal, "Zero bytes stand in the text: a file cut by a crash, or a buffer written whole. Readers in C stop there.", "文本中有零字节：崩溃截断的文件，或整块缓冲区被写出。C 语言的读取程序会在此停止。", fixEN, fixZH),
	entry("INVISIBLE_CHARACTER", e_, ClassLocal, "A character that nobody sees stands inside a block, from a web page, chat or word processor. The base64 breaks there.", "块内有不可见字符，来自网页、聊天或文字处理软件。base64 在此中断。", fixEN, fixZH),
	entry("COMMENT_IN_BODY", e_, ClassLocal, "Something that is not base64 stands between BEGIN and END; readers drop the certificate.", "BEGIN 与 END 之间有不是 base64 的内容；读取程序会丢弃该证书。", fixEN, fixZH),
	entry("INDENTED", e_, ClassLocal, "Lines are indented, as in YAML. OpenSSL does not find the END line; Go does not find BEGIN.", "行有缩进（如 YAML 中）。OpenSSL 找不到 END 行，Go 找不到 BEGIN。", fixEN, fixZH),
	entry("BLANK_LINES", e_, ClassLocal, "Empty lines stand inside a block. Go, Java and GnuTLS read on; nginx and OpenSSL's loader take what is before them for headers and stop.", "块内有空行。Go、Java 和 GnuTLS 会继续读取；nginx 和 OpenSSL 的加载器把空行之前的内容当作头部而停止。", fixEN, fixZH),
	entry("BAD_BASE64", e_, ClassLocal, "The base64 is not as RFC 4648, Section 4 wants it; strict readers drop the certificate.", "base64 不符合 RFC 4648 第 4 节；严格的读取程序会丢弃该证书。", fixEN, fixZH),
	entry("EMPTY_BLOCK", e_, ClassLocal, "BEGIN and END with nothing between them; OpenSSL stops there.", "BEGIN 与 END 之间没有内容；OpenSSL 会在此停止。", fixEN, fixZH),
	entry("TRAILING_BYTES", e_, ClassLocal, "Bytes that belong to nothing follow a certificate; Go and Java refuse it, OpenSSL does not look.", "证书后面有多余字节；Go 和 Java 拒绝，OpenSSL 不检查。", fixEN, fixZH),
	entry("UNWRAPPED_BASE64", w_, ClassLocal, "The base64 stands on one long line. OpenSSL 1.1 and newer and Go read it; old OpenSSL and some appliances stop at 76 characters.", "base64 在一个长行上。OpenSSL 1.1 及更新版本和 Go 能读；旧 OpenSSL 和部分设备在 76 个字符处停止。", fixEN, fixZH),
	entry("ODD_LABEL", w_, ClassLocal, "The block is labelled otherwise than CERTIFICATE. OpenSSL knows some of these labels; Go, Java and most others skip the block.", "块的标签不是 CERTIFICATE。OpenSSL 认识其中一些；Go、Java 等多数软件会跳过。", fixEN, fixZH),
	entry("CRLF", i_, ClassLocal, "Lines end in CR LF, as Windows writes them; every reader bears it.", "行以 CR LF 结尾（Windows 格式），所有读取程序都能接受。", "Nothing needs doing.", "无需处理。"),
	entry("TEXT_OUTSIDE_PEM", i_, ClassLocal, "Text stands outside the blocks, as OpenSSL writes it; readers skip it (RFC 7468, Section 2).", "块外有文本（OpenSSL 会这样写），读取程序会跳过（RFC 7468 第 2 节）。", "Nothing needs doing.", "无需处理。"),
	entry("TRAILING_SPACE", i_, ClassLocal, "Blanks stand at the ends of lines; readers bear it (RFC 7468, Section 2).", "行尾有空格，读取程序可以接受（RFC 7468 第 2 节）。", "Nothing needs doing.", "无需处理。"),
}
