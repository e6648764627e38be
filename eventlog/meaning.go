package eventlog

import (
	"bytes"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Meaning says in plain words what the event stands for. It goes by type, PCR
// and known names; it does not repeat the data, which is [Event.Text].
func (e *Event) Meaning() finding.Text {
	switch e.Type {
	case EVEventTag:
		switch id, _, _ := decodeTag(e.Data); {
		case e.PCR == 9 && id == tagLoadOptions:
			return finding.Text{EN: "the kernel's command line, as its EFI stub got it", ZH: "内核命令行（由 EFI stub 收到的内容）"}
		case e.PCR == 9 && id == tagInitrd:
			return finding.Text{EN: "the initrd that the kernel's EFI stub loaded", ZH: "内核 EFI stub 载入的 initrd"}
		case e.PCR == 1:
			return finding.Text{EN: "platform tables that SeaBIOS gives to the system (SMBIOS)", ZH: "SeaBIOS 交给系统的平台表（SMBIOS）"}
		case e.PCR == 2:
			return finding.Text{EN: "an option ROM of a device", ZH: "某个设备的 option ROM"}
		}
	case EVEFIVariableDriver, EVEFIVariableBoot, EVEFIVariableBoot2, EVEFIVariableAuthority:
		v, err := decodeVariable(e.Data)
		// As an authority, db is not the database but the entry in it that fitted.
		if t, ok := variableMeanings[v.name]; ok && err == nil && (e.Type != EVEFIVariableAuthority || v.name != "db") {
			return t
		}
	case EVIPL:
		return iplMeaning(e)
	case EVSeparator:
		switch {
		case e.separatorError():
			return finding.Text{EN: "the firmware met an error while measuring", ZH: "固件在度量时出错"}
		case e.PCR == 7:
			return finding.Text{EN: "end of the Secure Boot settings; what follows in PCR 7 is who signed what ran", ZH: "安全启动设置到此为止；其后 PCR 7 中是所运行程序的签名者"}
		}
	case EVEFIBootServicesApp:
		if e.PCR == 4 {
			return finding.Text{EN: "a program that the firmware started: boot loader or kernel (Authenticode hash)", ZH: "固件启动的程序：引导程序或内核（Authenticode 哈希）"}
		}
	case EVEFIAction:
		if t, ok := actionMeanings[string(bytes.TrimRight(e.Data, "\x00"))]; ok {
			return t
		}
	}
	if t, ok := typeMeanings[e.Type]; ok {
		return t
	}
	return finding.Text{EN: "an event of a type that we do not know", ZH: "未知类型的事件"}
}

// iplMeaning explains what boot loaders measure; each has its own PCRs.
func iplMeaning(e *Event) finding.Text {
	switch text := string(e.Data); {
	case e.PCR == 8 && strings.HasPrefix(text, "kernel_cmdline: "):
		return finding.Text{EN: "the kernel's command line, as GRUB passes it", ZH: "GRUB 传递的内核命令行"}
	case e.PCR == 8:
		return finding.Text{EN: "a command that GRUB ran", ZH: "GRUB 执行的命令"}
	case e.PCR == 9:
		return finding.Text{EN: "a file that GRUB read: its configuration, the kernel or the initrd", ZH: "GRUB 读取的文件：配置、内核或 initrd"}
	case e.PCR == 11:
		return finding.Text{EN: "a section of a unified kernel image", ZH: "统一内核映像的一个部分"}
	case e.PCR == 12:
		return finding.Text{EN: "a command line or credential given to a unified kernel image", ZH: "传给统一内核映像的命令行或凭据"}
	case e.PCR == 14:
		return finding.Text{EN: "keys and hashes that shim trusts beside the firmware's (MOK)", ZH: "shim 在固件之外信任的密钥与哈希（MOK）"}
	}
	return finding.Text{EN: "something that the boot loader measured", ZH: "引导程序度量的内容"}
}

var variableMeanings = map[string]finding.Text{
	"SecureBoot":     {EN: "whether UEFI Secure Boot was on", ZH: "UEFI 安全启动是否开启"},
	"PK":             {EN: "platform key: who owns the Secure Boot settings", ZH: "平台密钥：安全启动设置的所有者"},
	"KEK":            {EN: "who may change the Secure Boot databases", ZH: "可以修改安全启动数据库的密钥"},
	"db":             {EN: "signers and hashes that Secure Boot allows", ZH: "安全启动允许的签名者与哈希"},
	"dbx":            {EN: "signers and hashes that Secure Boot forbids", ZH: "安全启动禁止的签名者与哈希"},
	"BootOrder":      {EN: "the order in which the firmware tries its boot entries", ZH: "固件尝试启动项的顺序"},
	"SbatLevel":      {EN: "which old boot loaders shim refuses", ZH: "shim 拒绝的旧引导程序版本"},
	"MokListTrusted": {EN: "whether shim hands its keys to the kernel", ZH: "shim 是否把其密钥交给内核"},
	"Shim":           {EN: "the certificate in shim that allowed what it started", ZH: "shim 中允许其所启动程序的证书"},
	"MokList":        {EN: "the machine owner's key that allowed what shim started", ZH: "允许 shim 所启动程序的机主密钥"},
}

var actionMeanings = map[string]finding.Text{
	"Calling EFI Application from Boot Option":        {EN: "the firmware began to boot", ZH: "固件开始引导"},
	"Returning from EFI Application from Boot Option": {EN: "a boot attempt came back: another one follows, or none worked", ZH: "一次引导尝试返回：随后还有另一次，或都未成功"},
	"Exit Boot Services Invocation":                   {EN: "the operating system takes over", ZH: "操作系统开始接管"},
	"Exit Boot Services Returned with Success":        {EN: "the operating system has taken over", ZH: "操作系统已接管"},
	"Exit Boot Services Returned with Failure":        {EN: "the operating system could not take over at the first attempt", ZH: "操作系统第一次接管失败"},
	"UEFI Debug Mode":                                 {EN: "the firmware allows debugging: its other measurements are worth little", ZH: "固件允许调试：其余度量价值有限"},
	"DMA Protection Disabled":                         {EN: "devices could write to memory during the boot", ZH: "引导期间设备可以写内存"},
}

var typeMeanings = map[EventType]finding.Text{
	EVNoAction:              {EN: "information only: extended into no PCR, so nothing proves it", ZH: "仅供参考：未扩展到任何 PCR，因此没有证明"},
	EVPostCode:              {EN: "firmware code or tables", ZH: "固件代码或表"},
	EVPostCode2:             {EN: "firmware code or tables", ZH: "固件代码或表"},
	EVSeparator:             {EN: "end of the firmware's measurements into this PCR", ZH: "固件对该 PCR 的度量到此为止"},
	EVAction:                {EN: "the firmware did something", ZH: "固件执行了某个动作"},
	EVEFIAction:             {EN: "the firmware did something", ZH: "固件执行了某个动作"},
	EVEventTag:              {EN: "a tagged event of firmware or loader", ZH: "固件或引导程序的带标签事件"},
	EVSCRTMContents:         {EN: "the first code of the firmware", ZH: "固件最先执行的代码"},
	EVSCRTMVersion:          {EN: "the version of the firmware's first code", ZH: "固件最先执行代码的版本"},
	EVCPUMicrocode:          {EN: "processor microcode", ZH: "处理器微码"},
	EVPlatformConfigFlags:   {EN: "settings of the platform", ZH: "平台设置"},
	EVTableOfDevices:        {EN: "the devices of the platform", ZH: "平台的设备"},
	EVCompactHash:           {EN: "something that the boot loader measured", ZH: "引导程序度量的内容"},
	EVNonhostCode:           {EN: "code of another processor in the machine", ZH: "机器中其他处理器的代码"},
	EVNonhostConfig:         {EN: "settings of another processor in the machine", ZH: "机器中其他处理器的设置"},
	EVNonhostInfo:           {EN: "about another processor in the machine", ZH: "关于机器中其他处理器的信息"},
	EVOmitBootDeviceEvents:  {EN: "the firmware was told not to measure boot attempts", ZH: "固件被告知不度量引导尝试"},
	EVIPLPartitionData:      {EN: "the partition table of the boot disk", ZH: "引导盘的分区表"},
	EVEFIVariableDriver:     {EN: "a setting of the firmware", ZH: "固件的一个设置"},
	EVEFIVariableBoot:       {EN: "a boot entry of the firmware", ZH: "固件的一个启动项"},
	EVEFIVariableBoot2:      {EN: "a boot entry of the firmware", ZH: "固件的一个启动项"},
	EVEFIVariableAuthority:  {EN: "the key that allowed the next program to run", ZH: "允许下一个程序运行的密钥"},
	EVEFIBootServicesApp:    {EN: "a program that the firmware started (Authenticode hash)", ZH: "固件启动的程序（Authenticode 哈希）"},
	EVEFIBootServicesDriver: {EN: "a driver that the firmware loaded", ZH: "固件载入的驱动"},
	EVEFIRuntimeDriver:      {EN: "a driver of the firmware that stays in memory", ZH: "常驻内存的固件驱动"},
	EVEFIGPT:                {EN: "the partition table of the boot disk", ZH: "引导盘的分区表"},
	EVEFIGPT2:               {EN: "the partition table of the boot disk", ZH: "引导盘的分区表"},
	EVEFIFirmwareBlob:       {EN: "a volume of the firmware", ZH: "固件的一个卷"},
	EVEFIFirmwareBlob2:      {EN: "a volume of the firmware", ZH: "固件的一个卷"},
	EVEFIHandoffTables:      {EN: "tables that the firmware gives to the system", ZH: "固件交给系统的表"},
	EVEFIHandoffTables2:     {EN: "tables that the firmware gives to the system", ZH: "固件交给系统的表"},
	EVEFIHCRTM:              {EN: "what hardware measured before the firmware ran", ZH: "固件运行之前由硬件度量的内容"},
	EVEFISPDMBlob:           {EN: "firmware of a device, as the device measured it", ZH: "设备固件（由设备自行度量）"},
	EVEFISPDMConfig:         {EN: "settings of a device, as the device measured them", ZH: "设备设置（由设备自行度量）"},
	EVEFISPDMPolicy:         {EN: "rules for devices", ZH: "对设备的规则"},
	EVEFISPDMAuthority:      {EN: "the key that vouches for a device", ZH: "为设备作保的密钥"},
	EVPrebootCert:           {EN: "a certificate of the platform", ZH: "平台证书"},
}
