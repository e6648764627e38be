package engine

import (
	"encoding/binary"
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// audits reports whether a command is in the command audit (Part 1, 30.2).
func (nv *nvram) audits(cc tpm2.CC) bool {
	_, ok := slices.BinarySearch(nv.audited, cc)
	return ok
}

// auditCommand extends the command audit digest with a command that succeeded
// and its response, from the response code on.
func (t *TPM) auditCommand(c *call, rsp []byte, params int) {
	if c.commandCp == nil || !t.nv.audits(c.info.Code) {
		return
	}
	alg := t.nv.auditHash
	r := &t.ram.reset
	if len(r.auditDigest) != alg.DigestSize() {
		// The first audited command since the digest was last read: the counter tells (Part 1, 30.2).
		r.auditDigest = make([]byte, alg.DigestSize())
		t.w().auditCounter++
		t.commitQuietly()
	}
	end := len(rsp)
	if n := params - 4; n >= headerSize && len(c.auths) > 0 { // parameters only, without the sessions
		end = params + int(binary.BigEndian.Uint32(rsp[n:]))
	}
	r.auditDigest = crypt.Digest(alg, r.auditDigest, c.commandCp, rpHash(alg, c.info.Code, rsp[params:end]))
}

// setCommandCodeAuditStatus is TPM2_SetCommandCodeAuditStatus (Part 3, 21.2).
func (t *TPM) setCommandCodeAuditStatus(c *call, in *tpm2.SetCommandCodeAuditStatus, _ *tpm2.SetCommandCodeAuditStatusResponse) tpm2.RC {
	nv := t.n()
	if in.AuditAlg != tpm2.AlgNull && in.AuditAlg != nv.auditHash {
		if len(in.SetList) != 0 || len(in.ClearList) != 0 {
			return tpm2.RCValue.Param(1)
		}
		t.w().auditHash = in.AuditAlg
		if rc := t.commit(); rc != tpm2.RCSuccess {
			return rc
		}
		// The change speaks for itself: it is not audited, and the digest begins anew.
		t.ram.reset.auditDigest, c.commandCp = nil, nil
		return tpm2.RCSuccess
	}
	audited := slices.Clone(nv.audited)
	for _, cc := range in.SetList {
		if i, ok := slices.BinarySearch(audited, cc); !ok && command(cc) != nil && cc != tpm2.CCShutdown {
			audited = slices.Insert(audited, i, cc)
		}
	}
	for _, cc := range in.ClearList {
		if i, ok := slices.BinarySearch(audited, cc); ok && cc != tpm2.CCSetCommandCodeAuditStatus {
			audited = slices.Delete(audited, i, i+1)
		}
	}
	t.w().audited = audited
	return tpm2.RCSuccess
}
