package eventlog

import "fmt"

// EventType says what an event measured (PFP, table 27).
type EventType uint32

// The event types that this package treats by name.
const (
	EVPrebootCert           EventType = 0x00000000
	EVPostCode              EventType = 0x00000001
	EVNoAction              EventType = 0x00000003
	EVSeparator             EventType = 0x00000004
	EVAction                EventType = 0x00000005
	EVEventTag              EventType = 0x00000006
	EVSCRTMContents         EventType = 0x00000007
	EVSCRTMVersion          EventType = 0x00000008
	EVCPUMicrocode          EventType = 0x00000009
	EVPlatformConfigFlags   EventType = 0x0000000A
	EVTableOfDevices        EventType = 0x0000000B
	EVCompactHash           EventType = 0x0000000C
	EVIPL                   EventType = 0x0000000D
	EVIPLPartitionData      EventType = 0x0000000E
	EVNonhostCode           EventType = 0x0000000F
	EVNonhostConfig         EventType = 0x00000010
	EVNonhostInfo           EventType = 0x00000011
	EVOmitBootDeviceEvents  EventType = 0x00000012
	EVPostCode2             EventType = 0x00000013
	EVEFIVariableDriver     EventType = 0x80000001
	EVEFIVariableBoot       EventType = 0x80000002
	EVEFIBootServicesApp    EventType = 0x80000003
	EVEFIBootServicesDriver EventType = 0x80000004
	EVEFIRuntimeDriver      EventType = 0x80000005
	EVEFIGPT                EventType = 0x80000006
	EVEFIAction             EventType = 0x80000007
	EVEFIFirmwareBlob       EventType = 0x80000008
	EVEFIHandoffTables      EventType = 0x80000009
	EVEFIFirmwareBlob2      EventType = 0x8000000A
	EVEFIHandoffTables2     EventType = 0x8000000B
	EVEFIVariableBoot2      EventType = 0x8000000C
	EVEFIGPT2               EventType = 0x8000000D
	EVEFIHCRTM              EventType = 0x80000010
	EVEFIVariableAuthority  EventType = 0x800000E0
	EVEFISPDMBlob           EventType = 0x800000E1
	EVEFISPDMConfig         EventType = 0x800000E2
	EVEFISPDMPolicy         EventType = 0x800000E3
	EVEFISPDMAuthority      EventType = 0x800000E4
)

var typeNames = map[EventType]string{
	EVPrebootCert: "EV_PREBOOT_CERT", EVPostCode: "EV_POST_CODE", EVNoAction: "EV_NO_ACTION",
	EVSeparator: "EV_SEPARATOR", EVAction: "EV_ACTION", EVEventTag: "EV_EVENT_TAG",
	EVSCRTMContents: "EV_S_CRTM_CONTENTS", EVSCRTMVersion: "EV_S_CRTM_VERSION",
	EVCPUMicrocode: "EV_CPU_MICROCODE", EVPlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS",
	EVTableOfDevices: "EV_TABLE_OF_DEVICES", EVCompactHash: "EV_COMPACT_HASH", EVIPL: "EV_IPL",
	EVIPLPartitionData: "EV_IPL_PARTITION_DATA", EVNonhostCode: "EV_NONHOST_CODE",
	EVNonhostConfig: "EV_NONHOST_CONFIG", EVNonhostInfo: "EV_NONHOST_INFO",
	EVOmitBootDeviceEvents: "EV_OMIT_BOOT_DEVICE_EVENTS", EVPostCode2: "EV_POST_CODE2",
	EVEFIVariableDriver: "EV_EFI_VARIABLE_DRIVER_CONFIG", EVEFIVariableBoot: "EV_EFI_VARIABLE_BOOT",
	EVEFIBootServicesApp:    "EV_EFI_BOOT_SERVICES_APPLICATION",
	EVEFIBootServicesDriver: "EV_EFI_BOOT_SERVICES_DRIVER",
	EVEFIRuntimeDriver:      "EV_EFI_RUNTIME_SERVICES_DRIVER", EVEFIGPT: "EV_EFI_GPT_EVENT",
	EVEFIAction: "EV_EFI_ACTION", EVEFIFirmwareBlob: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	EVEFIHandoffTables: "EV_EFI_HANDOFF_TABLES", EVEFIFirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EVEFIHandoffTables2: "EV_EFI_HANDOFF_TABLES2", EVEFIVariableBoot2: "EV_EFI_VARIABLE_BOOT2",
	EVEFIGPT2: "EV_EFI_GPT_EVENT2", EVEFIHCRTM: "EV_EFI_HCRTM_EVENT",
	EVEFIVariableAuthority: "EV_EFI_VARIABLE_AUTHORITY", EVEFISPDMBlob: "EV_EFI_SPDM_FIRMWARE_BLOB",
	EVEFISPDMConfig: "EV_EFI_SPDM_FIRMWARE_CONFIG", EVEFISPDMPolicy: "EV_EFI_SPDM_DEVICE_POLICY",
	EVEFISPDMAuthority: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String returns the name of the specification, EV_SEPARATOR, or the number.
func (t EventType) String() string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("EV_0x%08X", uint32(t))
}
