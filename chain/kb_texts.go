package chain

import "github.com/vouchsafe/vouchsafe/finding"

// told is the longer half of a knowledge-base entry.
type told struct{ looks, clients finding.Text }

func tell(looks, looksZH, clients, clientsZH string) told {
	return told{finding.Text{EN: looks, ZH: looksZH}, finding.Text{EN: clients, ZH: clientsZH}}
}

// knowledge says of every code how it looks and who fails. What is said of
// nginx, OpenSSL 3.0, GnuTLS 3.7, Go 1.26, step and cfssl was measured over 84
// broken files; the rest is from their documentation.
var knowledge = map[string]told{
	"TOO_LARGE":            tell("A file of many megabytes, often a log or a disk image named by mistake.", "几 MB 以上的文件，常常是误选的日志或磁盘映像。", "Servers read it all and fail at start.", "服务器会全部读取并在启动时失败。"),
	"TOO_MANY":             tell("Hundreds of certificates: a trust store in place of a chain.", "数百个证书：误把信任库当作证书链。", "A TLS handshake with such a chain exceeds what clients accept (OpenSSL 100 kB, mbedTLS 16 kB).", "如此长的链会超过客户端接受的握手大小（OpenSSL 100 kB，mbedTLS 16 kB）。"),
	"EMPTY":                tell("Zero bytes, or blanks only.", "零字节，或只有空白。", "Everyone fails: OpenSSL says \"no start line\".", "全部失败：OpenSSL 报 “no start line”。"),
	"HTML":                 tell("The file starts with <!DOCTYPE html> or <html>.", "文件以 <!DOCTYPE html> 或 <html> 开头。", "Everyone fails: OpenSSL says \"no start line\".", "全部失败：OpenSSL 报 “no start line”。"),
	"CSR_NOT_CERT":         tell("BEGIN CERTIFICATE REQUEST, or BEGIN NEW CERTIFICATE REQUEST.", "BEGIN CERTIFICATE REQUEST 或 BEGIN NEW CERTIFICATE REQUEST。", "Everyone fails: nginx says \"no start line: Expecting: TRUSTED CERTIFICATE\".", "全部失败：nginx 报 “no start line: Expecting: TRUSTED CERTIFICATE”。"),
	"PUBLIC_KEY_NOT_CERT":  tell("BEGIN PUBLIC KEY.", "BEGIN PUBLIC KEY。", "Everyone fails.", "全部失败。"),
	"PRIVATE_KEY_NOT_CERT": tell("BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY, BEGIN EC PRIVATE KEY.", "BEGIN PRIVATE KEY、BEGIN RSA PRIVATE KEY 或 BEGIN EC PRIVATE KEY。", "Everyone fails; worse, people mail such files about.", "全部失败；更糟的是这类文件会被到处转发。"),
	"NOT_A_CERTIFICATE":    tell("Text or bytes without a certificate in them.", "不含证书的文本或字节。", "Everyone fails.", "全部失败。"),
	"LEAF_MISSING":         tell("Every certificate has CA:TRUE; often the CA's bundle was installed instead of the certificate.", "所有证书都是 CA:TRUE；常见于误装了 CA 的证书包。", "nginx and Apache say \"key values mismatch\"; clients would say \"unsuitable certificate purpose\".", "nginx 和 Apache 报 “key values mismatch”；客户端会报 “unsuitable certificate purpose”。"),
	"KEY_MISMATCH":         tell("Key and certificate were renewed apart, or the wrong key file is named. A reversed file looks the same to nginx: see ORDER_WRONG.", "密钥与证书未同步更新，或指定了错误的密钥文件。顺序颠倒的文件在 nginx 看来也是如此：见 ORDER_WRONG。", "No server starts: nginx \"key values mismatch\", Go \"private key does not match public key\".", "任何服务器都无法启动：nginx 报 “key values mismatch”，Go 报 “private key does not match public key”。"),

	"UTF16":               tell("Every second byte is 00; the file starts with FF FE or FE FF.", "每隔一个字节是 00；文件以 FF FE 或 FE FF 开头。", "Everyone fails but Windows' own viewer.", "除 Windows 自带查看器外全部失败。"),
	"DOUBLE_BASE64":       tell("The file starts with LS0tLS1CRUdJTi, which is \"-----BEGIN\" in base64.", "文件以 LS0tLS1CRUdJTi 开头，即 “-----BEGIN” 的 base64。", "Everyone fails: \"no start line\".", "全部失败：“no start line”。"),
	"NO_PEM_HEADER":       tell("The file starts with MII and has no lines of dashes.", "文件以 MII 开头，没有连字符行。", "OpenSSL, nginx, Go fail; Windows reads it.", "OpenSSL、nginx、Go 失败；Windows 能读。"),
	"ESCAPED_NEWLINES":    tell("One line, with \\n where lines should end; JSON and .env files have it so.", "只有一行，换行处是 \\n；JSON 和 .env 文件常见。", "Everyone fails: \"no start line\" or \"bad end line\".", "全部失败：“no start line” 或 “bad end line”。"),
	"NEWLINES_LOST":       tell("BEGIN and base64 on one line, blanks in place of line ends: a shell variable without quotes, a web form.", "BEGIN 与 base64 在一行，换行变成空格：未加引号的 shell 变量或网页表单。", "nginx, OpenSSL, Go and Java all fail; with BEGIN and END on lines of their own nobody does (measured), and it is a warning.", "nginx、OpenSSL、Go、Java 全部失败；BEGIN 和 END 独占一行时无人失败（实测），仅为警告。"),
	"DER_NOT_PEM":         tell("Binary; the first bytes are 30 82. Files called .cer or .crt by Windows, or .der.", "二进制，开头为 30 82。Windows 的 .cer、.crt 或 .der 文件。", "nginx, Apache, HAProxy, Go, Node fail; Windows, Java keytool and openssl x509 (3.0) read it.", "nginx、Apache、HAProxy、Go、Node 失败；Windows、Java keytool 和 openssl x509（3.0）能读。"),
	"PKCS7":               tell("BEGIN PKCS7, or a .p7b file; CAs offer it for IIS and Tomcat.", "BEGIN PKCS7，或 .p7b 文件；CA 为 IIS 和 Tomcat 提供。", "nginx, Apache, HAProxy, Go fail; Windows and keytool read it.", "nginx、Apache、HAProxy、Go 失败；Windows 和 keytool 能读。"),
	"PKCS12":              tell("A .pfx or .p12 file, binary, locked by a password; IIS and Java export it.", ".pfx 或 .p12 文件，二进制，有密码；由 IIS 和 Java 导出。", "nginx, Apache, HAProxy, Go fail; IIS, Java and macOS read it.", "nginx、Apache、HAProxy、Go 失败；IIS、Java 和 macOS 能读。"),
	"JKS":                 tell("A file that starts with FE ED FE ED.", "以 FE ED FE ED 开头的文件。", "Only Java reads it.", "只有 Java 能读。"),
	"MALFORMED_CONTAINER": tell("A .p7b or .pfx that is cut or changed.", "被截断或改动的 .p7b 或 .pfx。", "Everyone fails.", "全部失败。"),

	"CLOCK_BEHIND":           tell("\"certificate is not yet valid\" even for the root; the date is 1970, 2000 or the firmware's.", "连根证书都“尚未生效”；日期是 1970、2000 或固件日期。", "Every client on this machine fails, with every site; others do not.", "本机所有客户端访问任何网站都失败，其他机器正常。"),
	"CLOCK_AHEAD":            tell("\"certificate has expired\" for all certificates at once, the root too.", "所有证书同时“已过期”，包括根证书。", "Every client on this machine fails, with every site; others do not.", "本机所有客户端访问任何网站都失败，其他机器正常。"),
	"SELF_SIGNED":            tell("Issuer and subject are the same: OpenSSL error 18.", "签发者与主体相同：OpenSSL 错误 18。", "Every client fails that was not told to trust this very certificate.", "未被明确配置信任该证书的客户端全部失败。"),
	"ISSUER_NAME_MISMATCH":   tell("The key identifiers fit and the names do not: a CA renamed, or an intermediate of a renamed root. OpenSSL error 20, as for a missing intermediate.", "密钥标识吻合而名称不符：CA 更名所致。OpenSSL 报错误 20，与缺少中间证书相同。", "Every client fails; all look issuers up by name.", "全部失败；客户端都按名称查找签发者。"),
	"WRONG_INTERMEDIATE":     tell("The names fit and the key identifiers do not: the CA's previous or next key, or its test system. OpenSSL error 20.", "名称吻合而密钥标识不符：CA 的旧密钥、新密钥或测试环境。OpenSSL 错误 20。", "Clients fail that have not the right one cached: curl, Java, Go, phones. Windows may fetch it.", "没有缓存正确证书的客户端失败：curl、Java、Go、手机。Windows 可能会自动获取。"),
	"CROSS_SIGNED_UNTRUSTED": tell("The last intermediate is signed by a root of another programme or a retired one. OpenSSL error 20.", "最后一个中间证书由其他体系或已退役的根签发。OpenSSL 错误 20。", "Clients with only the new root fail; those with the old one work.", "只有新根的客户端失败；有旧根的客户端正常。"),
	"BAD_SIGNATURE":          tell("Names and key identifiers fit, the signature does not: a byte was changed by an editor, a transfer in text mode, or a disk.", "名称和密钥标识吻合，但签名不符：字节被编辑器、文本模式传输或磁盘改动。", "Every client fails. OpenSSL error 7, or 20.", "全部失败。OpenSSL 错误 7 或 20。"),
	"TRUNCATED_CERT":         tell("The base64 stops early; END is often missing. Seen after copying from a terminal.", "base64 提前结束，常缺 END。常见于从终端复制。", "nginx \"bad end line\"; Go silently skips the block and says \"unknown authority\".", "nginx 报 “bad end line”；Go 静默跳过该块并报 “unknown authority”。"),
	"MALFORMED_CERT":         tell("The base64 decodes, its DER does not: a changed or lost line in the middle.", "base64 可解码但 DER 不可解析：中间有一行被改动或丢失。", "Every client fails: \"asn1 encoding routines\", \"malformed certificate\".", "全部失败：“asn1 encoding routines”、“malformed certificate”。"),
	"BASE64_DAMAGED":         tell("Between BEGIN and END is no certificate any more.", "BEGIN 与 END 之间已不再是证书。", "Every client fails: \"bad base64 decode\".", "全部失败：“bad base64 decode”。"),
	"MISSING_INTERMEDIATE":   tell("\"It works in my browser, but not in curl.\" OpenSSL errors 20 and 21.", "“浏览器能用，但 curl 不能。”OpenSSL 错误 20 和 21。", "curl, OpenSSL, Go, Java, Python, Android, and phones with two-level chains fail; Chrome and Edge on Windows fetch it, Firefox preloads public ones, macOS fetches it.", "curl、OpenSSL、Go、Java、Python、Android 及只认两级链的手机失败；Windows 上的 Chrome 和 Edge 会自动获取，Firefox 预载公共中间证书，macOS 会获取。"),
	"UNKNOWN_ROOT":           tell("OpenSSL error 19, \"self-signed certificate in certificate chain\".", "OpenSSL 错误 19：“self-signed certificate in certificate chain”。", "Every client without this root fails. Android before 7.1.1 lacks roots of after 2016; Java 8 before 8u101 lacks ISRG X1.", "没有该根的客户端全部失败。Android 7.1.1 之前缺少 2016 年后的根；Java 8u101 之前缺少 ISRG X1。"),
	"TOO_COMPLEX":            tell("Dozens of CA certificates that all sign each other.", "数十个相互签名的 CA 证书。", "Clients give up: Go after 100 signatures, OpenSSL at depth 100.", "客户端会放弃：Go 在 100 次验签后，OpenSSL 在深度 100。"),
	"REVOKED":                tell("The serial is on the CA's list, or its responder says so.", "序列号在 CA 的吊销列表上，或其 OCSP 服务如此答复。", "Firefox (CRLite), Safari, Windows refuse it; OpenSSL, curl, Go and most others do not ask.", "Firefox（CRLite）、Safari、Windows 拒绝；OpenSSL、curl、Go 等多数不查询。"),
	"EXPIRED":                tell("OpenSSL error 10, Go \"certificate has expired or is not yet valid\".", "OpenSSL 错误 10，Go 报 “certificate has expired or is not yet valid”。", "Every client fails; Android alone ignores the end of a root's life.", "全部失败；只有 Android 忽略根证书的到期。"),
	"NOT_YET_VALID":          tell("OpenSSL error 9; just issued, and the client's clock a little behind.", "OpenSSL 错误 9；刚签发而客户端时钟略慢。", "Every client whose clock is behind notBefore fails.", "时钟早于 notBefore 的客户端全部失败。"),
	"CLOCK_UNCERTAIN":        tell("Valid or not by less than the uncertainty of the clock.", "有效与否取决于小于时钟误差的时间差。", "Some clients fail, depending on their clocks.", "部分客户端失败，取决于其时钟。"),
	"NAME_MISMATCH":          tell("OpenSSL error 62, browsers ERR_CERT_COMMON_NAME_INVALID.", "OpenSSL 错误 62，浏览器 ERR_CERT_COMMON_NAME_INVALID。", "Every client that checks names fails; nginx -t does not look.", "所有检查名称的客户端失败；nginx -t 不检查。"),
	"NO_SAN":                 tell("Go \"certificate relies on legacy Common Name field\".", "Go 报 “certificate relies on legacy Common Name field”。", "Chrome 58+, Firefox, Safari, Go 1.15+, Python 3.7+ fail; OpenSSL, old curl and Java still look at CN.", "Chrome 58+、Firefox、Safari、Go 1.15+、Python 3.7+ 失败；OpenSSL、旧 curl 和 Java 仍查看 CN。"),
	"EKU":                    tell("OpenSSL error 26, \"unsuitable certificate purpose\"; a client certificate in a server, or a mail CA above it.", "OpenSSL 错误 26：“unsuitable certificate purpose”；客户端证书用于服务器，或上级是邮件 CA。", "OpenSSL, Go, browsers fail; nginx starts with it.", "OpenSSL、Go、浏览器失败；nginx 可以启动。"),
	"PATH_LENGTH":            tell("OpenSSL error 25, Go \"too many intermediates for path length constraint\".", "OpenSSL 错误 25，Go 报 “too many intermediates for path length constraint”。", "Every client fails.", "全部失败。"),
	"NAME_CONSTRAINT":        tell("OpenSSL errors 47 and 48, Go \"not authorized to sign for this name\".", "OpenSSL 错误 47、48，Go 报 “not authorized to sign for this name”。", "Every modern client fails; Android before 10 and old macOS ignore constraints.", "现代客户端全部失败；Android 10 之前和旧 macOS 忽略名称约束。"),
	"NOT_A_CA":               tell("OpenSSL errors 24 and 79, Go \"parent certificate cannot sign\".", "OpenSSL 错误 24、79，Go 报 “parent certificate cannot sign”。", "Every client fails.", "全部失败。"),
	"CA_KEY_USAGE":           tell("OpenSSL error 32, \"key usage does not include certificate signing\".", "OpenSSL 错误 32：“key usage does not include certificate signing”。", "OpenSSL, GnuTLS, Go, NSS fail.", "OpenSSL、GnuTLS、Go、NSS 失败。"),
	"CRITICAL_EXTENSION":     tell("OpenSSL error 34, Go \"unhandled critical extension\".", "OpenSSL 错误 34，Go 报 “unhandled critical extension”。", "Every client fails that does not know the extension.", "不认识该扩展的客户端全部失败。"),
	"WEAK_HASH":              tell("sha1WithRSAEncryption or md5WithRSAEncryption in the text of the certificate.", "证书文本中有 sha1WithRSAEncryption 或 md5WithRSAEncryption。", "nginx with OpenSSL 3 says \"ca md too weak\"; browsers and Go fail; Java 8 before 8u131 and openssl verify do not.", "nginx（OpenSSL 3）报 “ca md too weak”；浏览器和 Go 失败；Java 8u131 之前与 openssl verify 不报。"),
	"WEAK_KEY":               tell("RSA with 1024 bits, DSA, or a small curve.", "1024 位 RSA、DSA 或小曲线。", "nginx with OpenSSL 3 says \"ee key too small\"; browsers fail; openssl verify does not.", "nginx（OpenSSL 3）报 “ee key too small”；浏览器失败；openssl verify 不报。"),
	"UNKNOWN_ALGORITHM":      tell("An object identifier in place of an algorithm's name.", "算法名称处显示为对象标识符。", "Clients without that algorithm fail.", "不支持该算法的客户端失败。"),
	"CRL_UNUSABLE":           tell("A CRL out of date, by another issuer, or without a number.", "CRL 过期、由他人签发或没有编号。", "Clients that insist on revocation fail; the others do not notice.", "强制检查吊销的客户端失败；其他不受影响。"),
	"OCSP_UNUSABLE":          tell("A response out of date or by a responder without authority.", "响应过期，或响应者无权。", "Firefox with must-staple fails; the others do not notice.", "要求 must-staple 时 Firefox 失败；其他不受影响。"),

	"TWO_LEAVES":           tell("Two certificates without CA:TRUE, often last year's and this year's, or one for RSA and one for ECDSA.", "两个非 CA 证书，常为去年和今年的，或 RSA 与 ECDSA 各一。", "Servers take the first. Most clients ignore the other; GnuTLS and mbedTLS may stop.", "服务器使用第一个。多数客户端忽略另一个；GnuTLS 和 mbedTLS 可能中止。"),
	"ORDER_WRONG":          tell("The root or an intermediate comes first, or intermediates are swapped. nginx and Go say that the key does not match.", "根或中间证书在最前，或中间证书互换。nginx 和 Go 报密钥不匹配。", "With the leaf not first nobody works. With intermediates swapped browsers, Go, OpenSSL and Java work; mbedTLS and strict TLS 1.2 clients fail.", "叶证书不在最前则全部失败。仅中间证书互换时浏览器、Go、OpenSSL、Java 正常；mbedTLS 和严格的 TLS 1.2 客户端失败。"),
	"CROSS_SIGNED_EXPIRED": tell("The DST Root X3 case of 2021: the cross-sign has expired, the new root is trusted.", "2021 年 DST Root X3 事件：交叉签名过期，而新根受信任。", "OpenSSL 1.0.2, LibreSSL before 3.2, GnuTLS before 3.6.14, old macOS fail; all newer work.", "OpenSSL 1.0.2、LibreSSL 3.2 之前、GnuTLS 3.6.14 之前、旧 macOS 失败；更新的版本正常。"),
	"ROOT_INCLUDED":        tell("The last certificate has the same issuer and subject.", "最后一个证书的签发者与主体相同。", "Nobody fails; a kilobyte more may cost one round trip.", "无人失败；多出的 1 KB 可能多一次往返。"),
	"DUPLICATE":            tell("The same base64 twice: cat cert.pem fullchain.pem.", "相同 base64 出现两次：例如 cat cert.pem fullchain.pem。", "Nearly nobody fails; strict TLS 1.2 clients may.", "几乎无人失败；严格的 TLS 1.2 客户端可能失败。"),
	"UNRELATED_CERT":       tell("An intermediate of another CA, left from the last renewal.", "另一 CA 的中间证书，上次续期遗留。", "New clients ignore it; strict TLS 1.2 clients may stop.", "新客户端忽略；严格的 TLS 1.2 客户端可能中止。"),
	"PRIVATE_KEY_IN_CHAIN": tell("BEGIN PRIVATE KEY between certificates.", "证书之间有 BEGIN PRIVATE KEY。", "Nobody fails; HAProxy even wants it. The danger is the next person who forwards the file.", "无人失败；HAProxy 甚至需要它。危险在于文件被转发。"),
	"CROSS_SIGNED_UNUSED":  tell("An intermediate in two editions, one of them for older roots.", "同一中间证书有两个版本，其一供旧根使用。", "Nobody fails.", "无人失败。"),
	"EXTRA_ITEM":           tell("BEGIN DH PARAMETERS, EC PARAMETERS, X509 CRL.", "BEGIN DH PARAMETERS、EC PARAMETERS、X509 CRL。", "Nobody fails.", "无人失败。"),

	"BAD_BOUNDARY":        tell("Four dashes in place of five, or dashes made longer by a word processor.", "四个而不是五个连字符，或被文字处理软件替换的破折号。", "OpenSSL \"bad end line\"; Go silently skips the block.", "OpenSSL 报 “bad end line”；Go 静默跳过该块。"),
	"GLUED_BOUNDARIES":    tell("-----END CERTIFICATE----------BEGIN CERTIFICATE-----.", "-----END CERTIFICATE----------BEGIN CERTIFICATE-----。", "OpenSSL, nginx and Go lose the next certificate: \"bad end line\", \"unknown authority\".", "OpenSSL、nginx 和 Go 会丢失下一个证书：“bad end line”、“unknown authority”。"),
	"BOM":                 tell("EF BB BF at the start, or in the middle after joining files.", "开头的 EF BB BF，或拼接后出现在中间。", "Go, step, cfssl and Java miss the block behind it; OpenSSL 3, GnuTLS and nginx do not. At the very end nobody minds, and it is a warning.", "Go、step、cfssl 和 Java 会漏掉其后的块；OpenSSL 3、GnuTLS 和 nginx 不会。在文件末尾无人受影响，仅为警告。"),
	"CR_LINE_ENDS":        tell("One long line in most editors.", "多数编辑器中显示为一长行。", "OpenSSL, nginx and Go fail.", "OpenSSL、nginx 和 Go 失败。"),
	"NUL_BYTES":           tell("\\0 or ^@ in an editor, at the end most often.", "编辑器中显示为 \\0 或 ^@，多在末尾。", "In the middle Go, nginx and Java fail; at the end nobody does (measured), and it is a warning.", "在中间时 Go、nginx 和 Java 失败；在末尾时无人失败（实测），仅为警告。"),
	"INVISIBLE_CHARACTER": tell("Nothing to see; cat -A shows M-BM-  or M-bM-^@M-^K.", "肉眼不可见；cat -A 显示 M-BM-  或 M-bM-^@M-^K。", "OpenSSL \"bad base64 decode\"; Go skips the block.", "OpenSSL 报 “bad base64 decode”；Go 跳过该块。"),
	"COMMENT_IN_BODY":     tell("A note between BEGIN and END.", "BEGIN 与 END 之间有备注。", "OpenSSL, nginx and Go drop the certificate.", "OpenSSL、nginx 和 Go 丢弃该证书。"),
	"INDENTED":            tell("Blanks before each line, from YAML or mail.", "每行前有空格，来自 YAML 或邮件。", "With indented BEGIN and END lines nginx, OpenSSL, Go and Java fail; with only the base64 indented nobody does (measured), and it is a warning.", "BEGIN 和 END 行缩进时 nginx、OpenSSL、Go、Java 失败；仅 base64 缩进时无人失败（实测），仅为警告。"),
	"BLANK_LINES":         tell("Every second line is empty: CR LF translated twice.", "每隔一行为空：CR LF 被转换两次。", "nginx 1.22 with OpenSSL 3.0 fails (measured); Go, Java and GnuTLS read on.", "nginx 1.22（OpenSSL 3.0）失败（实测）；Go、Java 和 GnuTLS 可继续读取。"),
	"BAD_BASE64":          tell("- and _ in place of + and /, or = missing at the end.", "用 - 和 _ 代替 + 和 /，或末尾缺 =。", "OpenSSL \"bad base64 decode\"; Go skips the block.", "OpenSSL 报 “bad base64 decode”；Go 跳过该块。"),
	"EMPTY_BLOCK":         tell("END right after BEGIN.", "BEGIN 之后紧接 END。", "OpenSSL and nginx stop; Go fails to parse it.", "OpenSSL 和 nginx 停止；Go 解析失败。"),
	"TRAILING_BYTES":      tell("Bytes after the certificate's own end.", "证书自身结尾之后还有字节。", "Go \"trailing data\"; OpenSSL does not look.", "Go 报 “trailing data”；OpenSSL 不检查。"),
	"UNWRAPPED_BASE64":    tell("One line of a thousand characters and more between BEGIN and END.", "BEGIN 与 END 之间是一行上千字符。", "OpenSSL 1.1+ and Go work; OpenSSL before 1.1 and some appliances fail.", "OpenSSL 1.1+ 和 Go 正常；OpenSSL 1.1 之前及部分设备失败。"),
	"ODD_LABEL":           tell("BEGIN TRUSTED CERTIFICATE (openssl x509 -trustout), BEGIN X509 CERTIFICATE.", "BEGIN TRUSTED CERTIFICATE（openssl x509 -trustout）、BEGIN X509 CERTIFICATE。", "OpenSSL and nginx read both; Go, Java, GnuTLS skip the block.", "OpenSSL 和 nginx 都能读；Go、Java、GnuTLS 跳过该块。"),
	"CRLF":                tell("^M at the ends of lines in cat -A.", "cat -A 中行尾显示 ^M。", "Nobody fails.", "无人失败。"),
	"TEXT_OUTSIDE_PEM":    tell("\"subject=…\", \"Bag Attributes\" or a comment between blocks.", "块之间有 “subject=…”、“Bag Attributes” 或备注。", "Nobody fails; very strict readers (Rust pem) may.", "无人失败；极严格的读取程序（Rust pem）可能失败。"),
	"TRAILING_SPACE":      tell("Blanks before $ in cat -A.", "cat -A 中 $ 之前有空格。", "Nobody fails.", "无人失败。"),

	"MUST_STAPLE":            tell("TLS Feature: status_request, and no OCSP address. Let's Encrypt has no OCSP since 2025-08.", "TLS Feature: status_request，但没有 OCSP 地址。Let's Encrypt 自 2025-08 起不再提供 OCSP。", "Firefox fails with MOZILLA_PKIX_ERROR_REQUIRED_TLS_FEATURE_MISSING; others do not look.", "Firefox 报 MOZILLA_PKIX_ERROR_REQUIRED_TLS_FEATURE_MISSING；其他不检查。"),
	"PUBLIC_SUFFIX_WILDCARD": tell("*.com, *.co.uk, *.github.io.", "*.com、*.co.uk、*.github.io。", "Chrome refuses it; others differ.", "Chrome 拒绝；其他各异。"),
	"LIFETIME":               tell("More than 398 days since 2020-09, 200 since 2026-03, 100 since 2027-03, 47 since 2029-03.", "2020-09 起超过 398 天，2026-03 起超过 200 天，2027-03 起超过 100 天，2029-03 起超过 47 天。", "Chrome, Safari and Firefox refuse it under a public root; private roots are not bound.", "公共根之下 Chrome、Safari 和 Firefox 拒绝；私有根不受约束。"),
	"LINT_SERIAL":            tell("Serial number 0, negative, or of 21 bytes.", "序列号为 0、负数或 21 字节。", "Go 1.23 refuses negative ones; most others do not look.", "Go 1.23 拒绝负数；多数不检查。"),
	"LINT_KEY_ID":            tell("No X509v3 Authority or Subject Key Identifier.", "没有 X509v3 Authority/Subject Key Identifier。", "Clients find the issuer by trying; Python 3.13 with VERIFY_X509_STRICT fails.", "客户端靠尝试查找签发者；Python 3.13 的 VERIFY_X509_STRICT 失败。"),
	"LINT_EKU":               tell("Any Extended Key Usage, or a critical one.", "Any Extended Key Usage，或被标为关键。", "Most clients accept it; root programmes do not.", "多数客户端接受；根证书计划不接受。"),
	"LINT_NAME":              tell("An address as a DNS name, a wildcard in the middle, CN not among the SANs.", "把地址写成 DNS 名、通配符在中间、CN 不在 SAN 中。", "Clients ignore such names; Go refuses some.", "客户端忽略此类名称；Go 拒绝其中一些。"),
	"LINT_CONSTRAINTS":       tell("basicConstraints missing or not critical in a CA, nameConstraints in a leaf.", "CA 的 basicConstraints 缺失或非关键，或叶证书带 nameConstraints。", "Most clients accept it; Python 3.13 with VERIFY_X509_STRICT fails.", "多数客户端接受；Python 3.13 的 VERIFY_X509_STRICT 失败。"),
	"LINT_VERSION":           tell("Version: 1 (0x0) in the text of the certificate.", "证书文本中显示 Version: 1 (0x0)。", "rustls and browsers refuse it; OpenSSL takes it for a leaf.", "rustls 和浏览器拒绝；OpenSSL 可作为叶证书接受。"),
	"LINT_EXTENSION":         tell("critical beside an extension that must not be, or missing where it must be.", "不应为关键的扩展标为关键，或相反。", "Strict clients fail: rustls, Python 3.13.", "严格的客户端失败：rustls、Python 3.13。"),

	"ADDRESS_DIFFERS": tell("The site works for some people, or every second time.", "网站对部分人可用，或时好时坏。", "Whoever reaches the other address fails, or sees the old certificate.", "访问到另一地址的客户端失败，或看到旧证书。"),
	"SERVED_DIFFERS":  tell("The new file is on disk, and browsers show the old date.", "磁盘上已是新文件，浏览器仍显示旧日期。", "Everyone gets what the server sends.", "所有人得到的都是服务器实际发送的证书。"),
	"VERSION_DIFFERS": tell("New clients work, old ones do not, or the other way round.", "新客户端正常而旧客户端失败，或相反。", "Clients of one TLS version fail.", "使用其中一个 TLS 版本的客户端失败。"),
	"NAME_NEEDED":     tell("openssl s_client -noservername shows another certificate.", "openssl s_client -noservername 显示另一张证书。", "Clients without SNI: Windows XP, Java 6, Android 2, health checks by address.", "不支持 SNI 的客户端：Windows XP、Java 6、Android 2、按地址的健康检查。"),
	"STAPLE_MISSING":  tell("openssl s_client -status says \"no response sent\".", "openssl s_client -status 显示 “no response sent”。", "Firefox fails; others do not look.", "Firefox 失败；其他不检查。"),
	"FIRST_FLIGHT":    tell("More than 14,480 bytes before the client may speak.", "客户端应答前超过 14,480 字节。", "Nobody fails; each handshake takes one round trip more.", "无人失败；每次握手多一次往返。"),
}
