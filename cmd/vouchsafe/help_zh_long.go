package main

// longZH is what each command does, at length. When its English has changed,
// see what follows from that here, and put the checksum that the test names.
var longZH = map[string]longHelp{
	"vouchsafe help": {0x6cce4d7d, `查看任一命令的帮助。
输入 vouchsafe help [命令路径] 可查看完整说明。`},
	"vouchsafe completion": {0x820c05eb, `生成指定 shell 的自动补全脚本。
各子命令的帮助说明如何使用生成的脚本。`},
	"vouchsafe completion bash": {0x82405242, `生成 bash 的自动补全脚本，依赖软件包 bash-completion。

在当前 shell 中启用：

	source <(vouchsafe completion bash)

对每个新的会话启用，执行一次：

#### Linux：

	vouchsafe completion bash > /etc/bash_completion.d/vouchsafe

#### macOS：

	vouchsafe completion bash > $(brew --prefix)/etc/bash_completion.d/vouchsafe

之后须新开一个 shell。`},
	"vouchsafe completion zsh": {0xd937fb3e, `生成 zsh 的自动补全脚本。

若环境中尚未启用补全，请执行一次：

	echo "autoload -U compinit; compinit" >> ~/.zshrc

在当前 shell 中启用：

	source <(vouchsafe completion zsh)

对每个新的会话启用，执行一次：

#### Linux：

	vouchsafe completion zsh > "${fpath[1]}/_vouchsafe"

#### macOS：

	vouchsafe completion zsh > $(brew --prefix)/share/zsh/site-functions/_vouchsafe

之后须新开一个 shell。`},
	"vouchsafe completion fish": {0x38df0115, `生成 fish 的自动补全脚本。

在当前 shell 中启用：

	vouchsafe completion fish | source

对每个新的会话启用，执行一次：

	vouchsafe completion fish > ~/.config/fish/completions/vouchsafe.fish

之后须新开一个 shell。`},
	"vouchsafe completion powershell": {0x9b81f881, `生成 powershell 的自动补全脚本。

在当前 shell 中启用：

	vouchsafe completion powershell | Out-String | Invoke-Expression

要对每个新的会话启用，请将上述命令的输出加入 powershell 配置文件。`},

	"vouchsafe attest show": {0x19f9921b, `查看虚拟机证据最近一次的评估结果。结果为 affirming 时退出码为 0，
有警告或被拒绝时为 3。`},
	"vouchsafe attest verify": {0x64d64453, `验证由虚拟机或“attest show --jwt”转交的证明结果：ES384 签名的 JWT（EAT），只需服务的根证书。
它说明由谁、何时、对哪台虚拟机得出什么结论；可接受多久以前的结果由您决定。
结果为 affirming 时退出码为 0，否则为 3。`},
	"vouchsafe chain check": {0x5956b6ab, `读取通常被称为证书文件的任何内容，指出其中每个错误及其位置，根本原因在前。
“-”表示标准输入。

退出码：0 无需修正，3 有发现，1 有输入无法读取。`},
	"vouchsafe chain fix": {0x7ad92897, `以规范的 PEM 写出叶证书及其后的中间证书，不含根；写入之前先检查结果。
未通过验证的内容不会写出。

--in-place 替换 FILE 本身，旧文件保留为 FILE.bak。--for java 写出 PKCS #12；
若 OUT 以 .jks 结尾，则为 8u301 之前的 Java 写出 JKS。`},
	"vouchsafe chain pool import": {0x8142acf3, `从 PEM 文件、PKCS #7 包或含 PEM 的 CSV 报告（CCADB）中取出所有非自签名的 CA 证书，
保存为 $XDG_DATA_HOME/vouchsafe/pool（~/.local/share/vouchsafe/pool）中的一个文件。
此后的检查与修复都会用到它。信任只来自 --roots。`},
	"vouchsafe demo": {0xb7e83246, `如 up 一样在临时目录中运行服务，并演示虚拟机的一生：诞生、启动、证明自身、取得证书与磁盘密钥；
当启动内容、磁盘、vTPM 的状态或证据不是原来的，以及被吊销之后，则遭拒绝。
一切都是真实的：经 swtpm 套接字的 TPM 命令、加密敏捷的事件日志、带客户端证书的 HTTPS、
位于 vTPM 内的 TLS 密钥、LUKS2（若已安装 cryptsetup）。每一行说明检查了什么。
只有全部成立，退出码才是 0。

使用 --guest 时虚拟机也是真实的：Debian 的 cloud 内核，在 QEMU 的 OVMF 之下启动，
vouchsafe-agent 位于当场生成的 initramfs 中。它经网络登记，首次准入时格式化磁盘，此后启动时自行打开；
命令行、磁盘或 vTPM 状态不符时保持关闭；更新在重启之前获得批准。没有 KVM 时约需两分钟。
它需要若干 Debian 软件包，并会指出缺少哪些。`},
	"vouchsafe eventlog check": {0x6a92a123, `找出日志的问题，以及度量不足的启动。

不带 --pcrs 时只看日志本身：与摘要矛盾的数据、缺失或重复的分隔事件、没有事件度量的内核、命令行或 initrd；
带 --ima 时还检查该列表的条目，以及它是否属于同一次启动。带 --pcrs 时，按日志重放还须得到这些值：
tpm2_pcrread 的输出，或 /sys/class/tpm/tpm0 这样的目录。

只有 quote 能向他人证明 PCR 值，文本文件不能。
退出码 0：没有发现，或只有提示。3：有错误或警告。`},
	"vouchsafe eventlog predict": {0x4de55602, `在启动之前计算其 PCR 值：QEMU、OVMF、-kernel、-initrd 与 -append。

给出 GOLDEN（同一虚拟机某次启动的日志）时计算全部 PCR，适用于只有内核、initrd 与命令行不同的启动：
机器类型或内存大小不同时，OVMF 的 PCR 0 也不同，且无人能够计算。
不给 GOLDEN 时只计算 PCR 4 与 9，它们与固件的构建无关。

命令行以 UTF-16LE 加 NUL 的 SHA-256 度量；有 initrd 时 OVMF 会在其后追加“ initrd=initrd”：
请按传给 -append 的原样给出。--memory 即 QEMU 的 -m：QEMU 把 initrd 的地址写入内核头，
而内核头会被度量，因此 PCR 4 取决于它和 initrd 的大小。`},
	"vouchsafe eventlog replay": {0xb25f32c0, `按日志重放，计算 PCR 值，输出格式同 tpm2_pcrread。

IMA 列表是日志的延续：其条目扩展到 PCR 10。`},
	"vouchsafe eventlog show": {0xa23effda, `用文字列出各事件，并注明其文本得到证明的程度。

“已证明”一列说明事件与摘要的关系：
  是      摘要就是该文本的哈希
  部分    是文本一部分的哈希（例如变量的值，不含名称）
  否      是日志之外某物的哈希，例如文件：文本只是提示
  不符    本应是该文本的哈希而不是：有人改过
  -       该事件未被扩展，没有任何依据
以上成立的前提是：按日志重放得到的 PCR 值由 TPM 签名。`},
	"vouchsafe host enroll": {0x18f0fcc9, `在宿主机上以操作员的凭据执行。它登记该宿主机及其 TPM 的 EK，为“vouchsafe host run”制作凭据，
并让宿主机证明自身一次。此时尚无人批准它的启动：请查看所度量的内容，然后用 --approve 批准，
或稍后执行“vouchsafe policy enroll --host NAME”。

服务凭什么相信这个 TPM 属于该宿主机？使用 --ek-roots 时，凭 TPM 制造商在 EK 证书中的声明；
否则凭您的担保。记录中会写明是哪一种。`},
	"vouchsafe host run": {0x036d72a5, `在本机承载 vTPM。QEMU 连接 NAME.sock，此外无需其他：

  -chardev socket,id=tpm,path=SOCKETS/NAME.sock -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0

vTPM 的状态只有在服务的租约之下才能打开，租约结束时它随之停止。若本机自己的 TPM 已登记
（vouchsafe host enroll），本机会持续证明自身，一次涵盖其全部 vTPM。`},
	"vouchsafe key rotate": {0xf6c03ed3, `生成密钥的新版本。

  root        更换根密钥及打开它的密钥文件，并以新密钥重新加密所有秘密。
              在服务所在机器上、服务停止时执行。若被中断，再次执行或启动服务即可从断点继续。
              旧的备份仍可用恢复密钥打开，内容与备份时相同。
  ca/PURPOSE  为 vtpm-ek、vm-identity、service-tls、operator 或 residence 颁发机构换新密钥与证书。
              在服务所在机器上、服务停止时执行，并须提供恢复密钥，因为由根 CA 签发。
              旧的颁发机构已签发的证书在到期之前仍然有效。
  policy      批准启动所用的密钥，在服务运行时执行。每个已批准启动都会重新签名；
              虚拟机用它所知道的版本打开磁盘，并在下次带磁盘准入时重新密封：
              vouchsafe key show policy 显示还有多少台尚未完成。`},
	"vouchsafe module": {0x3711e830, `签名、验证 Linux 内核模块，并解释内核的判定。

verify 与 scan 在重启之前指出内核会加载、带污染加载或拒绝哪些模块，以及原因。
发行版模块的签名密钥在每次构建内核时新生成，只存在于该内核的映像中，
因此每个模块都按它自己的内核判断。`},
	"vouchsafe module explain": {0xde35882f, `解释内核日志中有关模块的内容，并给出处理办法。

从标准输入读取：dmesg、journalctl -k，或 modprobe 的输出。每种原因只说明一次，并附相应的日志行。
退出码 0：没有问题。3：有问题。`},
	"vouchsafe module key": {0xa9e1d1d7, `模块专用 CA 及其下的签名密钥，保存在服务的密钥环中。

CA 证书在每台机器上导入一次（mokutil --import FILE，重启并确认）。签名使用有效期半年的密钥；
rotate 生成下一个，无需重新导入任何内容。私钥从不以明文写到磁盘上，
每次使用之前都先记入服务的审计日志（vouchsafe audit list）。

服务即状态目录中的服务（由 vouchsafe init 创建）：直接打开，或在其运行时通过 API 访问。
--state 也可以是含 url 文件的凭据目录，用于另一台机器上的服务。`},
	"vouchsafe module key rotate": {0x610da942, `生成下一个签名密钥。此前的私钥被销毁，其证书保留。
它签过的模块仍能加载：签名中带有该证书，机器信任的是 CA，而内核不检查有效期。`},
	"vouchsafe module scan": {0xd8d95ea3, `验证所有已安装内核的全部模块。

标准输出为一张表，每个内核一行，其下列出不能正常加载的模块。带 --json 时每个模块一个对象，
格式同 verify。
退出码 0：全部正常加载。3：并非如此，或有已安装的内核没有模块。`},
	"vouchsafe module sign": {0x128eaae8, `就地签名模块。原有签名会被替换。

新文件写在旧文件旁边，一步替换它，保留权限与属主；其他硬链接仍指向旧文件。
压缩的模块（.ko.xz、.ko.gz、.ko.zst）对其内容签名，再按原方式压缩。
由其他证书签发的证书会被内嵌，否则只信任 CA 的内核找不到它；--chain=false 不内嵌，
--chain 连自签名证书也内嵌。

KEY 为 keyring:，即状态目录中服务的签名密钥（module key init），或 keyring:DIR；PEM 文件；
PKCS#11 密钥（pkcs11:token=…;object=…，RFC 7512）；或 TPM 中的密钥：tpm:0x81000001，
或 tpm:FILE（TSS2 PRIVATE KEY），位于 /dev/tpmrm0 或 ?device=unix:PATH|tcp:HOST:PORT|/dev/…。
PIN 或口令取自 ?pin-source=file:PATH、$VOUCHSAFE_PIN_FILE、$KBUILD_SIGN_PIN 或终端。`},
	"vouchsafe module verify": {0x0dce3843, `指出内核会加载、带污染加载或拒绝哪些模块。

每个模块按它自己的内核判断：其所在 lib/modules 所属的内核，否则为 vermagic 中的内核。
先在 /boot 中查找映像，再在 lib/modules 旁边查找（如解开的软件包）；--json 会写明所用映像。
受信的有映像自带的密钥、本机 shim 与固件所导入的密钥，以及 --cert；再扣除 dbx 与 MokListX 所禁止的。

模式：off（内核被标记为受污染）、enforce（module.sig_enforce=1）、
lockdown（安全启动）、integrity（无安全启动的 lockdown=integrity）。
退出码 0：全部正常加载，没有污染，也没有错误。3：并非如此。`},
	"vouchsafe policy enroll": {0x9c40c655, `批准虚拟机最近出示的启动；带 --host 时为宿主机。其代理须在最近一小时内证明过，并以 REFERENCE_MISSING
或 BOOT_DIFFERS 被拒绝：证据的其他部分均已成立。此后服务准入这一启动，虚拟机的 TPM 也视其为已批准。
请阅读警告：它们指出这次启动没有度量什么。`},
	"vouchsafe policy modules": {0x1344b57e, `规定虚拟机可加载的内核模块。每份生效的列表彼此并存，因此可在重启之前允许下一个内核的模块，
之后再撤回旧内核的。一旦有列表，虚拟机的代理就必须发送 IMA 的度量（--ima）；
内核加载了其他任何内容的虚拟机会被拒绝，并指出是哪个模块。

虚拟机的内核必须度量它所加载的内容：在 initramfs 最开始将“measure func=MODULE_CHECK”写入
/sys/kernel/security/ima/policy。IMA 能看到从文件加载的模块（finit_module）；
它看不到什么，见 docs/formats/module-list.md。`},
	"vouchsafe policy offline allow": {0x451bf604, `允许虚拟机在无人应答时脱离服务打开磁盘（vouchsafe-agent unlock --offline）。
每次带磁盘准入时，虚拟机得到一份由其 TPM 强制执行的许可：vTPM 再复位 N 次之内、运行时间 D 之内，
且仅限已批准的启动。TPM 无法得知它关机了多久。
许可不能远程收回：已被吊销但被隔离于网络之外的虚拟机，在许可用尽之前仍能打开磁盘。
因此请只允许少数几次启动，不再需要时及时撤回。`},
	"vouchsafe host reinstate": {0x55936ca7, `在机器已恢复清洁、或由另一台机器接替之后，重新接纳已吊销的宿主机。此前的一切只留下名称，
以及哪些虚拟机属于它：不再登记任何 TPM，不再接受任何陈述，旧凭据仍为吊销状态。
然后像新宿主机一样登记：在其上执行 vouchsafe host enroll NAME。`},
	"vouchsafe host revoke": {0x57de7688, `一次性立即终止对宿主机的一切信任。其凭据被吊销，且不再以其名义签发新的；它得不到租约，
已有的租约不再续期，五分钟内结束；它所证明过的、以及曾被接受这一点，都不再有效。
属于它的虚拟机不再获准入，其已有身份证书被吊销，因为掌握该机 root 者同样掌握它们。
虚拟机本身不被吊销。

若只是其凭据的副本落入他人之手，用“vouchsafe ca revoke SERIAL”吊销那一张即可。`},
	"vouchsafe policy propose": {0x185612f0, `以最近一个已批准启动为依据，计算另一内核、initrd 与命令行将度量出的值（OVMF 下的 QEMU -kernel）。
不带 --approve 时只说明会有哪些变化。此前的集合在撤回之前仍然有效。`},
	"vouchsafe sign-file": {0xa96e0c75, `签名一个模块，参数与内核的 sign-file 相同。

对于证书为自签名的 RSA 密钥，结果逐字节相同。由 CA 签发的证书会被内嵌，这是 sign-file 做不到的：
这样只需导入 CA，其下的密钥可以更换。原有签名会被替换。

KEY 也可以是 keyring:（服务的密钥，此时以其证书为准，而非 CERT）、pkcs11:… 或 tpm:…，
或写有此类名称的文件；见 module sign。

  sign-file -s RAWSIG HASH CERT MODULE [DEST]
附加在别处生成的 CMS 签名。`},
	"vouchsafe up": {0x9ce0a4be, `在一个进程中运行控制面并承载 vTPM，全部在本机。然后：

  vouchsafe vm create web1

QEMU 连接状态目录下 sockets 中的 web1.sock。只有在本机用其 TPM 证明自身之后
（vouchsafe host enroll localhost --approve），或使用 --accept-unattested-host
（即接受它的一面之词）时，密钥才会发放到本机。`},
	"vouchsafe vm accept-state": {0x8858049e, `服务恢复较旧的备份之后，各宿主机上的 vTPM 状态比记录更新，会以 STATE_AHEAD 被拒绝。
本命令把一台虚拟机的记录向前（绝不向后）推进到其宿主机在最近一小时内出示的那一代；
--list 列出有哪些。

宿主机的磁盘被恢复或丢失最后的写入之后，其状态副本的写入次数少于记录，会以 STATE_ROLLED_BACK
被拒绝。用 --writes 指明该副本，若它是在虚拟机上次启动之后制作的，即被接受：计数器、PIN
和失败次数随之回到制作副本时的样子。

您要担保这就是现存最新的状态：此后发生过什么，已无人能知。
完整步骤见 docs/runbooks/restore.md。`},
	"vouchsafe vm create": {0x200ec597, `创建虚拟机。由运行“vouchsafe host run”或“vouchsafe up”的宿主机制造 vTPM，本命令等待其完成。
带 --ek-public 时 vTPM 已经存在，虚拟机以其 EK 识别。`},
	"vouchsafe vtpm import-swtpm": {0x821f762c, `接管 swtpm 保存在 DIR 中的 TPM 2.0（tpm2-00.permall；若处于挂起状态，还有 tpm2-00.volatilestate），
支持 libtpms 0.7 至 0.10 写出的状态。持久密钥、NV 索引、计数器、种子、授权值与策略都会保留；
主密钥与在 swtpm 之下相同，因此密封到该 TPM 的内容仍能打开，其 EK 证书依然有效。

swtpm 的文件不会改动。vouchsafe 的状态写在它们旁边，属主相同，并以打开 swtpm 状态的密钥密封；
vtpm.takeover 记录所做的操作。中途崩溃不会丢失任何内容：再次执行即可。此后不要再在 DIR 上运行 swtpm：
那将是同一 TPM 的第二个副本。

以 swtpm 之名调用时（libvirt 即如此），若只有 swtpm 的状态而没有自己的，vouchsafe 会自动完成上述操作。`},
	"vouchsafe vtpm rekey": {0x0a760062, `用另一密钥密封已断电的 vTPM 的状态，或密封原为明文的状态。
文件一步替换；崩溃之后它要么是原来的样子，要么是应有的样子。`},
	"vouchsafe vtpm serve": {0x76e7a947, `在套接字上提供一个 vTPM。选项与“swtpm socket”相同，因此 QEMU、libvirt、tpm2-tss
以及为 swtpm 编写的脚本无需改动；以 swtpm 之名调用时，本程序接受相同的命令行。`},
	"vouchsafe vtpm setup": {0x6ec25bf6, `在状态目录中制造新的 vTPM：RSA-2048、P-256 与 P-384 的 EK，由本机 CA 签发的 EK 证书与平台证书，
以及 PCR 组。选项与 swtpm_setup 相同，因此 libvirt 可原样调用。`},
}
