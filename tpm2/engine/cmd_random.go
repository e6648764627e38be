package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// getRandom is TPM2_GetRandom (Part 3, 16.1): at most a digest's worth.
func (t *TPM) getRandom(_ *call, in *tpm2.GetRandom, out *tpm2.GetRandomResponse) tpm2.RC {
	n := min(int(in.BytesRequested), maxDigest)
	if t.scratch == nil {
		t.scratch = make([]byte, maxDigest)
	}
	out.RandomBytes = t.scratch[:n]
	t.rng.fill(out.RandomBytes)
	return tpm2.RCSuccess
}

// stirRandom is TPM2_StirRandom (Part 3, 16.2).
func (t *TPM) stirRandom(_ *call, in *tpm2.StirRandom, _ *tpm2.StirRandomResponse) tpm2.RC {
	t.rng.stir(in.InData)
	return tpm2.RCSuccess
}
