package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// Dictionary attack protection (Part 1, 16.8). A failure is stored before it is
// answered, so pulling the plug does not give a try back; for the same reason an
// unorderly end needs no failure counted on suspicion (as 16.8.6 notes).

// lockedOut says whether an entity under protection must not be tried now.
func (t *TPM) lockedOut(lockout bool) bool {
	nv := t.n()
	if lockout {
		return nv.lockoutAuthDisabled
	}
	// Without a recovery time there is no protection (Part 1, 16.8.2).
	return nv.recoveryTime != 0 && nv.failedTries >= nv.maxTries
}

// countFailure records one failed try and makes it durable.
func (t *TPM) countFailure(lockout bool) tpm2.RC {
	t.tx = nil // nothing else of this command counts
	nv := t.w()
	if lockout {
		nv.lockoutAuthDisabled = true
		t.ram.lockoutAt = t.time()
	} else if nv.recoveryTime != 0 && nv.failedTries < ^uint32(0) {
		nv.failedTries++
		t.ram.daAt = t.time()
	}
	return t.commitFailure()
}

// commitFailure is [TPM.commit] for a failed try. One that cannot be stored
// counts all the same while the TPM has power, and is stored with the next
// change: a full disk must not make guessing free.
func (t *TPM) commitFailure() tpm2.RC {
	tx := t.tx
	rc := t.commit()
	if rc != tpm2.RCSuccess {
		t.nv = tx
	}
	return rc
}

// heal gives tries back as time passes (Part 1, 16.8.3).
func (t *TPM) heal() {
	nv := t.n()
	if nv.failedTries == 0 && !nv.lockoutAuthDisabled {
		return
	}
	now := t.time()
	if nv.failedTries > 0 && nv.recoveryTime > 0 {
		if n := (now - t.ram.daAt) / (uint64(nv.recoveryTime) * 1000); n > 0 {
			t.w().failedTries -= uint32(min(n, uint64(nv.failedTries)))
			t.ram.daAt += n * uint64(nv.recoveryTime) * 1000
			t.commitQuietly()
		}
	}
	if nv.lockoutAuthDisabled && nv.lockoutRecovery > 0 && now-t.ram.lockoutAt >= uint64(nv.lockoutRecovery)*1000 {
		t.w().lockoutAuthDisabled = false
		t.commitQuietly()
	}
}
