package eventlog

// Limits for logs from strangers. A guest may send anything as its log; the
// largest honest logs are far below these.
const (
	// MaxSize is the longest TCG log. Firmware reserves 64 KiB to 1 MiB for
	// it; our Secure Boot capture has 20 kB.
	MaxSize = 2 << 20
	// MaxEvents is the most events in a TCG log. GRUB measures every line of
	// its script that it runs, a few hundred in the largest we know.
	MaxEvents = 8192
	// MaxEventData is the longest data of one event. The largest honest ones
	// are dbx (24 kB in 2026) and MokListX.
	MaxEventData = 1 << 20
	// MaxAlgs is the most PCR banks in one log: the TCG registry names 7
	// hash algorithms.
	MaxAlgs = 8
	// MaxPCR is the last PCR of a PC (PFP, section 3.3).
	MaxPCR = 23

	// MaxIMASize is the longest IMA list. It grows with the uptime; a server
	// with a policy for every executable reaches some MB.
	MaxIMASize = 16 << 20
	// MaxIMAEntries is the most entries in an IMA list: MaxIMASize of
	// shortest entries would be more, and nobody has them.
	MaxIMAEntries = 200_000
	// MaxIMAField is the longest field of an IMA entry: a path (4 KiB), a
	// signature, or a measured buffer such as a key or a policy.
	MaxIMAField = 256 << 10
	// MaxIMAName is the longest template name or descriptor. The kernel's
	// TEMPLATE_NAME_LEN_MAX is 255.
	MaxIMAName = 255

	// MaxPE is the longest kernel image whose hash is computed.
	MaxPE = 512 << 20
	// MaxText is how many runes of an event's data are shown to a person.
	MaxText = 400
	// maxNodes is the most nodes of a device path or partitions of a GPT that
	// are put into words.
	maxNodes = 32
)
