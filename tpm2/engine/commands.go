package engine

import (
	"cmp"
	"slices"
	"sync"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// commands is everything this TPM can do, in the order of the codes.
// TPM2_GetCapability, TPMA_CC and the audit lists are made from it; what is not
// here is not there.
var commands []entry

// init breaks the circle that the methods, which read the table, would make
// with its initialiser.
func init() {
	commands = table(
		// 9 start-up, 10 testing
		on((*TPM).startup), on((*TPM).shutdown),
		on((*TPM).selfTest), on((*TPM).incrementalSelfTest), on((*TPM).getTestResult),
		// 11 sessions
		on((*TPM).startAuthSession), on((*TPM).policyRestart),
		// 12 objects
		on((*TPM).create), on((*TPM).load), on((*TPM).loadExternal), on((*TPM).readPublic),
		on((*TPM).activateCredential), on((*TPM).makeCredential), on((*TPM).unseal),
		on((*TPM).objectChangeAuth), on((*TPM).createLoaded),
		// 13 duplication
		on((*TPM).duplicate), on((*TPM).rewrap), on((*TPM).importObject),
		// 14 asymmetric primitives
		on((*TPM).rsaEncrypt), on((*TPM).rsaDecrypt), on((*TPM).ecdhKeyGen), on((*TPM).ecdhZGen), on((*TPM).eccParameters),
		on((*TPM).zGen2Phase), on((*TPM).eccEncrypt), on((*TPM).eccDecrypt), on((*TPM).commitPoint), on((*TPM).ecEphemeral),
		on((*TPM).encapsulate), on((*TPM).decapsulate),
		// 15 symmetric primitives
		on((*TPM).encryptDecrypt), on((*TPM).encryptDecrypt2), on((*TPM).hashCommand), on((*TPM).hmac),
		// 16 random numbers
		on((*TPM).getRandom), on((*TPM).stirRandom),
		// 17 hash, HMAC and event sequences
		on((*TPM).hmacStart), on((*TPM).hashSequenceStart), on((*TPM).sequenceUpdate),
		on((*TPM).sequenceComplete), on((*TPM).eventSequenceComplete),
		// 18 attestation
		on((*TPM).certify), on((*TPM).certifyCreation), on((*TPM).quote),
		on((*TPM).getSessionAuditDigest), on((*TPM).getCommandAuditDigest), on((*TPM).getTime), on((*TPM).certifyX509),
		// 20 signing
		on((*TPM).verifySignature), on((*TPM).sign), on((*TPM).signSequenceStart), on((*TPM).signSequenceComplete), on((*TPM).verifySequenceStart),
		on((*TPM).verifySequenceComplete), on((*TPM).verifyDigestSignature), on((*TPM).signDigestCommand),
		// 21 command audit
		on((*TPM).setCommandCodeAuditStatus),
		// 22 integrity collection (PCR)
		on((*TPM).pcrExtend), on((*TPM).pcrEvent), on((*TPM).pcrRead), on((*TPM).pcrAllocate), on((*TPM).pcrReset),
		on((*TPM).pcrSetAuthPolicy), on((*TPM).pcrSetAuthValue),
		// 23 enhanced authorization
		on((*TPM).policySigned), on((*TPM).policySecret), on((*TPM).policyTicket), on((*TPM).policyOR), on((*TPM).policyPCR),
		on((*TPM).policyLocality), on((*TPM).policyNV), on((*TPM).policyCounterTimer), on((*TPM).policyCommandCode),
		on((*TPM).policyPhysicalPresence), on((*TPM).policyCpHash), on((*TPM).policyNameHash), on((*TPM).policyDuplicationSelect),
		on((*TPM).policyAuthorize), on((*TPM).policyAuthValue), on((*TPM).policyPassword), on((*TPM).policyGetDigest),
		on((*TPM).policyNvWritten), on((*TPM).policyTemplate), on((*TPM).policyAuthorizeNV), on((*TPM).policyParameters),
		on((*TPM).policyCapability),
		// 24 hierarchies, 25 dictionary attacks
		on((*TPM).createPrimary), on((*TPM).hierarchyControl), on((*TPM).setPrimaryPolicy), on((*TPM).changePPS), on((*TPM).changeEPS),
		on((*TPM).clear), on((*TPM).clearControl), on((*TPM).hierarchyChangeAuth),
		on((*TPM).dictionaryAttackLockReset), on((*TPM).dictionaryAttackParameters),
		// 26 miscellaneous
		on((*TPM).ppCommands), on((*TPM).setAlgorithmSet),
		// 28 contexts, 29 clock, 30 capabilities
		on((*TPM).contextSave), on((*TPM).contextLoad), on((*TPM).flushContext), on((*TPM).evictControl),
		on((*TPM).readClock), on((*TPM).clockSet), on((*TPM).clockRateAdjust),
		on((*TPM).getCapability), on((*TPM).testParms),
		// 31 non-volatile storage
		on((*TPM).nvDefineSpace), on((*TPM).nvUndefineSpace), on((*TPM).nvUndefineSpaceSpecial), on((*TPM).nvReadPublic),
		on((*TPM).nvWrite), on((*TPM).nvIncrement), on((*TPM).nvExtend), on((*TPM).nvSetBits), on((*TPM).nvWriteLock),
		on((*TPM).nvGlobalWriteLock), on((*TPM).nvRead), on((*TPM).nvReadLock), on((*TPM).nvChangeAuth), on((*TPM).nvCertify),
		on((*TPM).nvDefineSpace2), on((*TPM).nvReadPublic2),
	)
}

// An entry is one implemented command.
type entry struct {
	info *tpm2.CommandInfo
	do   func(t *TPM, c *call, tag tpm2.ST) tpm2.RC
}

// on makes the entry of a command from the method that carries it out. The
// method gets the decoded parameters and fills in the response; it finds handles
// in its parameters as well. A response code for a parameter that decoded says
// which: RCValue.Param(2).
func on[C, R any, PC interface {
	*C
	tpm2.Command
}, PR interface {
	*R
	tpm2.Response
}](f func(*TPM, *call, PC, PR) tpm2.RC) entry {
	type memory struct {
		in  C
		out R
	}
	pool := sync.Pool{New: func() any { return new(memory) }} // commands run without allocating
	info := tpm2.Info(PC(new(C)).CommandCode())
	return entry{info: info, do: func(t *TPM, c *call, tag tpm2.ST) tpm2.RC {
		m := pool.Get().(*memory)
		defer func() {
			*m = memory{} // secrets and handles do not wait here for the next command
			pool.Put(m)
		}()
		in, out := PC(&m.in), PR(&m.out)
		in.SetHandles(c.handles)
		t.dec.Reset(c.params)
		in.DecodeParameters(&t.dec)
		t.dec.Done()
		if rc := t.dec.RC(); rc != tpm2.RCSuccess {
			return rc
		}
		if rc := f(t, c, in, out); rc != tpm2.RCSuccess {
			return rc
		}
		if rc := t.commit(); rc != tpm2.RCSuccess {
			return rc
		}
		return t.respond(c, tag, out)
	}}
}

// byCode finds a command from the first code on; the codes have few gaps.
var byCode []*entry

// table sorts entries by command code.
func table(entries ...entry) []entry {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.info.Code, b.info.Code) })
	first, last := entries[0].info.Code, entries[len(entries)-1].info.Code
	byCode = make([]*entry, last-first+1)
	for i := range entries {
		byCode[entries[i].info.Code-first] = &entries[i]
	}
	return entries
}

// command is the entry of a code, or nil when there is none.
func command(cc tpm2.CC) *entry {
	if i := cc - commands[0].info.Code; i < tpm2.CC(len(byCode)) { // what is below the first wraps to far above
		return byCode[i]
	}
	return nil
}
