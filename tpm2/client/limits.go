package client

import "time"

const (
	// headerSize is a command's or response's tag, size and code (Part 1, 15.2).
	headerSize = 10

	// maxCommand and maxResponse are what PC Client TPMs and the Linux driver
	// carry (TPM_BUFSIZE); nothing this package builds or asks for is longer.
	maxCommand  = 4096
	maxResponse = 4096

	// maxSessions is the number of sessions that a command may have (Part 1, 15.6).
	maxSessions = 3

	// A busy TPM is asked again after retryFirst, then after twice as long each
	// time up to retryMost, until retryFor is over: a full self-test of a slow
	// discrete TPM takes a few seconds, and an operator waits no longer than ten.
	retryFirst = time.Millisecond
	retryMost  = 200 * time.Millisecond
	retryFor   = 10 * time.Second

	// commandFor bounds one command on connections that know deadlines: no TPM
	// takes longer, and the Linux driver waits five minutes for RSA keys at most.
	commandFor = 5 * time.Minute

	// maxEmptyReads bounds the reads that return neither octets nor an error.
	maxEmptyReads = 100

	// maxRounds bounds every loop that a TPM prolongs by saying "there is more".
	// The longest honest one is 24 PCRs of 16 banks read eight at a time: 48.
	maxRounds = 256

	// nvChunkDefault is what every TPM of the PC Client profile moves of an NV
	// index at once, nvChunkMost what our codec carries: TPM_PT_NV_BUFFER_MAX is
	// asked for only above the first and believed only up to the second.
	nvChunkDefault = 512
	nvChunkMost    = 1024

	// maxEvent is the largest TPM2B_EVENT (Part 2, 10.4.7), maxSealed the largest
	// TPM2B_SENSITIVE_DATA that every TPM has (MAX_SYM_DATA).
	maxEvent  = 1024
	maxSealed = 128

	// randomChunk is asked of TPM2_GetRandom at once: every TPM gives at least
	// the largest digest it has, and 32 octets is the least of those today.
	randomChunk = 32

	// maxCapabilities is asked for at once; a TPM gives what fits its own buffer.
	maxCapabilities = 254
)
