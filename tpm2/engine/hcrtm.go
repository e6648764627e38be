package engine

// The platform has an event sequence of its own: before TPM2_Startup it is the
// H-CRTM, after it a dynamic launch (Part 1, 31; Part 3, 22.9 to 22.11).

// abandonHCRTM ends a sequence without effect: a command came in between, or the
// H-CRTM has not ended before TPM2_Startup (Part 1, 31.1).
func (t *TPM) abandonHCRTM() {
	if t.hcrtm != nil && t.hcrtm.kind != seqLaunch {
		t.hcrtm = nil
	}
}

// HashStart is _TPM_Hash_Start.
func (t *TPM) HashStart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	algs := t.nv.banks
	if t.ram.started {
		algs = nil
		for _, b := range t.ram.pcr {
			algs = append(algs, b.alg)
		}
	}
	t.hcrtm = newSequence(seqEvent, nil, algs...)
	t.established = true
}

// HashData is _TPM_Hash_Data; without a start before it, it does nothing.
func (t *TPM) HashData(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hcrtm != nil && t.hcrtm.kind != seqLaunch {
		t.hcrtm.feed(data)
	}
}

// HashEnd is _TPM_Hash_End. Before TPM2_Startup the measurement waits for PCR 0;
// after it, PCR 17 to 22 begin at zero and PCR 17 is extended.
func (t *TPM) HashEnd() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.hcrtm == nil || t.failed != nil:
		return
	case !t.ram.started:
		t.hcrtm.kind = seqLaunch
		return
	}
	t.w().restartCount++ // so that an attestation tells (Part 1, 33.5)
	t.commitFailure()
	for i := range t.ram.pcr {
		for n, a := range pcrs {
			if a.drtm {
				clear(t.ram.pcr[i].at(n))
			}
		}
	}
	t.measure(17)
}

// measure extends a PCR with what the platform's sequence hashed, and ends it.
func (t *TPM) measure(pcr int) {
	for i, a := range t.hcrtm.algs {
		t.extend(pcr, a, t.hcrtm.sums[i].Sum(nil))
	}
	t.hcrtm = nil
}

// sequences are all the digests in progress, to be saved and restored with the state.
func (t *TPM) sequences() (out []*sequence) {
	for _, o := range t.ram.objects {
		if o != nil && o.seq != nil {
			out = append(out, o.seq)
		}
	}
	if t.hcrtm != nil {
		out = append(out, t.hcrtm)
	}
	return out
}
