package main

// shortZH is what each command does, in one line: English to Chinese.
var shortZH = map[string]string{
	"Trust for virtual machines: a TPM for each, and keys bound to it": "虚拟机的信任：每台一个 TPM，密钥与之绑定",
	"Help about any command":                                     "查看任一命令的帮助",
	"Generate the autocompletion script for the specified shell": "生成指定 shell 的自动补全脚本",
	"Generate the autocompletion script for bash":                "生成 bash 的自动补全脚本",
	"Generate the autocompletion script for zsh":                 "生成 zsh 的自动补全脚本",
	"Generate the autocompletion script for fish":                "生成 fish 的自动补全脚本",
	"Generate the autocompletion script for powershell":          "生成 powershell 的自动补全脚本",
	"Print the version":                                          "显示版本",
	"Tell what any code means, and what to type":                 "解释任一代码的含义与处理方法",
	"Write a manual page for every command into DIR":             "把每个命令的手册页写入 DIR",

	"Appraisals of VMs: show, verify":                                    "虚拟机的评估：查看、验证",
	"Show how a VM's evidence was last appraised, and why":               "查看虚拟机证据最近一次的评估结果及依据",
	"Verify a signed result without the service: a relying party's side": "脱离服务验证已签名的结果：依赖方一侧",

	"The audit log: list, verify, checkpoint, key":                             "审计日志：列出、校验、检查点、密钥",
	"Print the newest signed checkpoint, to keep it elsewhere":                 "输出最新的已签名检查点，供异地保存",
	"Print the log's verifier key, to keep it elsewhere":                       "输出日志的验证密钥，供异地保存",
	"Print the log's records":                                                  "输出日志的记录",
	"Verify the whole log, and that it agrees with checkpoints kept elsewhere": "校验整个日志，并与异地保存的检查点对照",

	"Seal the whole service into one file; only the recovery key opens it": "将整个服务密封为一个文件；只有恢复密钥能打开",
	"Open a backup into a new state directory, and check all of it first":  "将备份恢复到新的状态目录，并先检查全部内容",
	"Examine every store of the service, and explain what is wrong":        "检查服务的全部存储，并说明问题所在",

	"Certificates: list, show, revoke, CRLs, credentials":                        "证书：列出、查看、吊销、CRL、凭据",
	"Make a client credential for an operator or an agent; its key is made here": "制作操作员或代理的客户端凭据；密钥在本机生成",
	"Print the CRL of one intermediate in PEM":                                   "输出某个中间 CA 的 CRL（PEM）",
	"List certificates":                 "列出证书",
	"Revoke a certificate, for good":    "永久吊销证书",
	"Print the root certificate in PEM": "输出根证书（PEM）",
	"Print a certificate in PEM":        "输出证书（PEM）",

	"Name every fault of a certificate chain, and mend it":                            "找出证书链的每个错误并修复",
	"Say everything that is wrong with a certificate file, or with a server's chain":  "指出证书文件或服务器证书链的全部问题",
	"Tell what a code means: how it looks, who fails, how to mend it":                 "解释某个代码：现象、受影响的客户端、修复方法",
	"Write the chain as servers want it: leaf first, intermediates after it, no root": "按服务器要求写出证书链：叶证书在前，其后为中间证书，不含根",
	"Keep intermediates at hand, so that chains are mended offline":                   "在本机保存中间证书，以便离线修复证书链",
	"Take the intermediates of a PEM bundle or of CCADB's CSV reports":                "从 PEM 文件或 CCADB 的 CSV 报告导入中间证书",
	"Say what is in the pool, and where it is":                                        "显示证书库的内容与位置",

	"Lead a VM through its life, and see it refused when anything was tampered with": "演示虚拟机的一生，以及被篡改时如何遭到拒绝",

	"Read measured-boot logs: what a machine says about its boot, and what of it is proved": "读取度量启动日志：机器对其启动的陈述，以及其中哪些得到证明",
	"Find what is wrong with a log, and which boots measure too little":                     "找出日志的问题，以及度量不足的启动",
	"Compute the PCR values of a boot before it happens":                                    "在启动之前计算其 PCR 值",
	"Compute the PCR values that the log leads to":                                          "按日志重放，计算 PCR 值",
	"List the events in plain words, each with what is proved of its text":                  "用文字列出各事件，并注明其文本得到证明的程度",

	"Hosts that carry vTPMs: add, enroll, run, list, show, revoke, reinstate":               "承载 vTPM 的宿主机：添加、登记、运行、列出、查看、吊销、重新接纳",
	"End all trust in a host: its credential, its leases, its word for its VMs":             "终止对宿主机的一切信任：其凭据、租约及其对虚拟机的陈述",
	"Begin anew with a revoked host: nothing of before counts":                              "重新接纳已吊销的宿主机：此前的一切不再有效",
	"Make a host known that proved nothing yet":                                             "登记一台尚未证明自身的宿主机",
	"On the host, as an operator: record its TPM, make its credential, let it prove itself": "在宿主机上以操作员身份：登记其 TPM，制作凭据，让它证明自身",
	"List hosts": "列出宿主机",
	"Carry vTPMs on this machine: make them, run them under leases, prove this machine": "在本机承载 vTPM：制造、在租约下运行、证明本机",
	"Show one host: what it is worth now, and how its evidence was last appraised":      "查看一台宿主机：当前的可信程度与最近一次评估结果",

	"Create a service: root key, certificate authorities, first operator": "创建服务：根密钥、证书颁发机构、首个操作员",
	"Run everything on this machine; the first time, create it":           "在本机运行全部组件；首次运行时先创建",
	"Run the control plane": "运行控制面",

	"Keys of the service: list, show, versions, history, rotate":                            "服务的密钥：列出、查看、版本、历史、轮换",
	"Show who rotated a key and when, out of the audit log":                                 "从审计日志查看密钥由谁、何时轮换",
	"List every key by class and purpose; never the keys themselves":                        "按类别与用途列出全部密钥；不输出密钥本身",
	"Make a new version of a key":                                                           "生成密钥的新版本",
	"Show one key: what it is for, its versions, and what still needs them":                 "查看一个密钥：用途、各版本、仍依赖它们的对象",
	"List the versions of a key that are kept: the primary one and at most three before it": "列出所保留的密钥版本：主版本及其之前至多三个",

	"Sign, verify and explain Linux kernel modules":                                  "签名、验证 Linux 内核模块，并解释内核的判定",
	"Say what a kernel's log lines about modules mean, and what to do":               "解释内核日志中有关模块的内容，并给出处理办法",
	"A CA for modules alone, and the signing key under it, in the service's keyring": "模块专用 CA 及其下的签名密钥，保存在服务的密钥环中",
	"Make a CA for modules and its first signing key":                                "生成模块专用 CA 及其首个签名密钥",
	"Make the next signing key":                                                      "生成下一个签名密钥",
	"Show the CA and the signing key; write the file to enrol":                       "查看 CA 与签名密钥；写出待导入的文件",
	"Verify every module of every installed kernel":                                  "验证所有已安装内核的全部模块",
	"Sign modules in place":                                                          "就地签名模块",
	"Say which modules their kernel will load, taint itself for, or refuse":          "预测内核会加载、带污染加载或拒绝哪些模块",
	"Sign one module, with the arguments of the kernel's sign-file":                  "签名一个模块，参数与内核的 sign-file 相同",

	"Approved boots of VMs and hosts: enroll, propose, show, withdraw; modules of VMs; disks offline": "虚拟机与宿主机的已批准启动：登记、提议、查看、撤回；虚拟机的模块；离线磁盘",
	"Approve the boot that a VM or host last showed: a golden boot":                                   "批准虚拟机或宿主机最近出示的启动，作为基准启动",
	"Say which kernel modules a VM may load; without flags, show it":                                  "规定虚拟机可加载的内核模块；不带选项则查看",
	"Disks that open without the service: allow, revoke, show":                                        "脱离服务打开的磁盘：允许、撤回、查看",
	"Let a VM open its disks without the service, for a few boots":                                    "允许虚拟机在若干次启动中脱离服务打开磁盘",
	"Withdraw that; what the VM has runs out, or goes when it is admitted":                            "撤回许可；虚拟机已有的许可用尽为止，或在下次准入时清除",
	"Show whether a VM opens its disks without the service, and what is out":                          "查看虚拟机能否脱离服务打开磁盘，以及已发放的许可",
	"Compute the next boot's values before the reboot, and approve them":                              "在重启之前计算下一次启动的值，并予以批准",
	"Show a VM's approved boots":                                                                      "查看虚拟机的已批准启动",
	"Withdraw one approved boot: the service no longer admits it":                                     "撤回一个已批准启动：服务不再准入",

	"VMs: create, list, show, revoke":                                           "虚拟机：创建、列出、查看、吊销",
	"After an older backup was restored: accept the state that a VM's host has": "恢复了较旧的备份之后：接受宿主机上的虚拟机状态",
	"Make a VM: its host makes the vTPM":                                        "创建虚拟机：由其宿主机制造 vTPM",
	"Drop the order of a VM whose vTPM its host has not made":                   "取消宿主机尚未制造 vTPM 的虚拟机创建请求",
	"List VMs": "列出虚拟机",
	"End all trust in a VM, for good: no key, no certificate, no lease": "永久终止对虚拟机的信任：不再发放密钥、证书与租约",
	"Show one VM": "查看一台虚拟机",

	"Stand-alone vTPMs that take swtpm's place":                                          "独立运行的 vTPM，可替代 swtpm",
	"Ask or order a running vTPM through its control channel (swtpm_ioctl's options)":    "通过控制通道查询或操作运行中的 vTPM（选项同 swtpm_ioctl）",
	"Take over the TPM 2.0 that swtpm keeps in DIR":                                      "接管 swtpm 保存在 DIR 中的 TPM 2.0",
	"Seal a vTPM's state with another key":                                               "用另一密钥密封 vTPM 的状态",
	"Serve one vTPM on sockets, with swtpm's options":                                    "在套接字上提供一个 vTPM，选项同 swtpm",
	"Make a vTPM with its endorsement keys and certificates, with swtpm_setup's options": "制造 vTPM 及其 EK 与证书，选项同 swtpm_setup",
}

// commentsZH is what examples say behind a #.
var commentsZH = map[string]string{
	"then read evidence/README.txt": "然后阅读 evidence/README.txt",
	"for dkms, see deploy/dkms":     "用于 dkms，见 deploy/dkms",
}
