package chinese

// refusals are the remedies of enroll.Refusals and verifier.Refusals, which an
// agent gets as the hint of a refusal. The catalogs have the Chinese already;
// an agent must not be linked with the rooms of the service, so what it can
// meet stands here again, and a test holds both together.
var refusals = []text{
	{"Choose a name of a-z, 0-9, '-', '_' and '.', at most 63 letters, that begins with a letter or a digit", "请使用由 a-z、0-9、'-'、'_'、'.' 组成、至多 63 个字符、以字母或数字开头的名称"},
	{"ECDSA on P-256, P-384 or P-521, an endorsement key also RSA of 2048 to 4096 bits, in PEM: vouchsafe ca credential makes key and request itself; tpm2_readpublic -f pem -o FILE writes an endorsement key", "请使用 P-256、P-384 或 P-521 上的 ECDSA，背书密钥也可为 2048 至 4096 位 RSA，PEM 格式：vouchsafe ca credential 会自行生成密钥与请求；tpm2_readpublic -f pem -o FILE 可写出背书密钥"},
	{"Change the value that the message names; GET /openapi.yaml says what every call takes", "请修改消息所指的值；GET /openapi.yaml 列出每个调用可接受的内容"},
	{"vouchsafe audit list --object NAME says who did it and why; make a new VM with a new vTPM", "vouchsafe audit list --object NAME 可查看操作者和原因；请用新的 vTPM 创建新虚拟机"},
	{"Start it where it belongs: vouchsafe vm show NAME", "请在其所属宿主机上启动：vouchsafe vm show NAME"},
	{"Stop it there, or wait five minutes after that host went silent", "请先在那里停止它，或在该宿主机失联五分钟后再试"},
	{"Stop the vTPM and ask for a new lease", "请停止该 vTPM 并重新申请租约"},
	{"Find the newest state file on the host. A copy that was made since the VM's last start may be accepted by an operator who knows why: vouchsafe vm accept-state --list; for an older one there is no way back, and the VM needs a new vTPM", "请在宿主机上找到最新的状态文件。虚拟机上次启动之后制作的副本，可由了解原因的运维人员接受：vouchsafe vm accept-state --list；更旧的则无法恢复，该虚拟机需要新的 vTPM"},
	{"Restore the newest backup; if this is the newest, an operator who knows why may say: vouchsafe vm accept-state NAME --generation N --reason TEXT", "请恢复最新的备份；若这已是最新，了解原因的运维人员可执行：vouchsafe vm accept-state NAME --generation N --reason TEXT"},
	{"Let the host start the VM, then: vouchsafe vm accept-state --list", "让宿主机启动该虚拟机，然后：vouchsafe vm accept-state --list"},
	{"Run the service on another machine: vouchsafe backup here, vouchsafe restore there", "请在另一台机器上运行服务：此处 vouchsafe backup，彼处 vouchsafe restore"},
	{"Attest it, or accept it knowingly: vouchsafe host add NAME --accept-unattested-host", "请对其进行证明，或明确接受：vouchsafe host add NAME --accept-unattested-host"},
	{"See that vouchsafe host run runs there, and what it says; a boot that is not approved: vouchsafe policy enroll --host NAME", "请确认该机正在运行 vouchsafe host run 并查看其输出；若启动未获批准：vouchsafe policy enroll --host NAME"},
	{"A vTPM that has just started is covered within seconds; otherwise run it under vouchsafe host run", "刚启动的 vTPM 数秒内即被涵盖；否则请用 vouchsafe host run 运行它"},
	{"Look for a second copy of its directory on the host", "请在宿主机上查找其目录的第二个副本"},
	{"On the host, as an operator: vouchsafe host enroll NAME", "请以操作员身份在该宿主机上执行：vouchsafe host enroll NAME"},
	{"If its mainboard was exchanged: vouchsafe host revoke NAME, vouchsafe host reinstate NAME, then enrol it again; another machine needs another name", "若主板已更换：vouchsafe host revoke NAME、vouchsafe host reinstate NAME，然后重新登记；另一台机器请用另一名称"},
	{"vouchsafe audit list --object NAME says who did it and why; to begin anew with the machine: vouchsafe host reinstate NAME --reason TEXT, then on it vouchsafe host enroll NAME", "vouchsafe audit list --object NAME 可查看操作者和原因；若要重新接纳该机器：vouchsafe host reinstate NAME --reason TEXT，然后在其上 vouchsafe host enroll NAME"},
	{"vouchsafe host list says how it stands; to end trust in it first: vouchsafe host revoke NAME --reason TEXT", "vouchsafe host list 可查看其状态；若要先终止对它的信任：vouchsafe host revoke NAME --reason TEXT"},
	{"Ask for a new nonce and quote again", "请申请新的随机数并重新生成 quote"},
	{"If it was no retry of your own, look who sent it: vouchsafe audit list --object NAME", "若非自己的重试，请查看来源：vouchsafe audit list --object NAME"},
	{"Wait a minute; a guest that goes on like this boots in a loop", "请等待一分钟；若持续如此，该虚拟机可能在循环重启"},
	{"Look at the guest's event log: vouchsafe eventlog show FILE", "请检查虚拟机的事件日志：vouchsafe eventlog show FILE"},
	{"Make a new vTPM", "请创建新的 vTPM"},
	{"vouchsafe check; then restore the newest backup", "vouchsafe check；然后恢复最新备份"},
	{"Attach the right disk", "请挂载正确的磁盘"},
	{"Use the agent of the service's version", "请使用与服务版本一致的代理"},
	{"Boot the VM with its own vTPM and attest again; vouchsafe vm show NAME has the recorded key's digest", "请以其自身的 vTPM 启动并重新证明；vouchsafe vm show NAME 显示登记密钥的摘要"},
	{"In the guest: vouchsafe-agent attest; then vouchsafe policy enroll NAME", "在虚拟机内：vouchsafe-agent attest；然后 vouchsafe policy enroll NAME"},
	{"vouchsafe attest show NAME says what it measured; boot it once as it is meant to be, then vouchsafe policy enroll NAME", "vouchsafe attest show NAME 可查看其度量；请按预期方式启动一次，然后 vouchsafe policy enroll NAME"},
	{"vouchsafe policy modules NAME shows them; --withdraw VERSION ends one", "vouchsafe policy modules NAME 可查看；--withdraw 版本 可撤回其中之一"},
	{"vouchsafe key show policy says how many; reboot those VMs, or revoke them: each seals anew at its next admission with a disk", "vouchsafe key show policy 可查看数量；请重启或吊销这些虚拟机：每台在下次带磁盘准入时重新密封"},
}
