package swtpm

import "time"

// Every bound in this package, with its reason.
const (
	// usualBuffer is the largest command and response unless SET_BUFFERSIZE says
	// otherwise: the size of a CRB or TIS buffer in the PC Client profile, and
	// swtpm's maximum.
	usualBuffer = 4096
	// maxCommand is the most that SET_BUFFERSIZE can ask for: what the signatures
	// and keys of version 185 take. Who does not ask cannot be expected to read so much.
	maxCommand = 8192
	// dataBuffer holds a hash block of 1 KiB with what is around it: all but the
	// largest commands arrive in one read.
	dataBuffer = 2048
	// controlBuffer holds everything but state blobs.
	controlBuffer = 128
	// minBuffer is the least that SET_BUFFERSIZE can ask for. swtpm answers
	// 2808; QEMU asks for 3968 (CRB), so nobody is near it.
	minBuffer = 2808
	// tpmHeader is tag, size and code.
	tpmHeader = 10
	// maxBlob bounds a state blob from the wire, as upstream swtpm does. Ours
	// are below 200 KiB (128 KiB of NV space and the objects in RAM).
	maxBlob = 512 << 10
	// maxHashData is one HASH_DATA; swtpm takes 4096 as well.
	maxHashData = 4096

	// maxControlConns are served at once; further ones wait to be accepted.
	// QEMU, libvirt and an operator's swtpm_ioctl are three.
	maxControlConns = 16

	// requestTimeout is for the rest of a control request whose first byte is
	// there. Bodies are not self-delimiting, so a client sends each in one write.
	requestTimeout = 500 * time.Millisecond
	// blobTimeout is for the data of a SET_STATEBLOB.
	blobTimeout = 10 * time.Second
	// commandTimeout is for the rest of a TPM command whose first byte is
	// there; an idle data channel may stay open for ever.
	commandTimeout = 10 * time.Second
	// writeTimeout is for a peer that does not read its answer.
	writeTimeout = 10 * time.Second
	// patience is how long a dedicated server keeps a processor while commands come,
	// before it lets the runtime look round, and how long a command may be in coming
	// to count as quick: longer than a guest that is talking to its TPM takes for the
	// next one, also when the host lets it wait for its turn, and half of the 10 ms
	// after which the runtime's monitor steps in.
	patience = 5 * time.Millisecond
	// quickStreak is how many commands come within patience before the processor is
	// kept: a poll in vain costs as much as two or three waits in Go's poller.
	quickStreak = 4
	// mssimPause is how long a data connection that was made before a TCP
	// control connection may take to be noticed; see meansPowerOn.
	mssimPause = 10 * time.Millisecond
	// maxFDs are kept of those that come with one request: SET_DATAFD takes
	// one, and with a second it is refused.
	maxFDs = 2
	// acceptPause is between two attempts when accept fails (out of descriptors).
	acceptPause = 100 * time.Millisecond

	maxLocality = 4
)
