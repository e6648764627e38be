package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// The self-tests of the algorithms are those that Go's cryptography runs when
// the program starts; there is never anything left to test (Part 3, 10).

func (t *TPM) selfTest(*call, *tpm2.SelfTest, *tpm2.SelfTestResponse) tpm2.RC {
	return tpm2.RCSuccess
}

func (t *TPM) incrementalSelfTest(_ *call, in *tpm2.IncrementalSelfTest, _ *tpm2.IncrementalSelfTestResponse) tpm2.RC {
	for _, alg := range in.ToTest {
		if !t.implements(alg) {
			return tpm2.RCValue.Param(1)
		}
	}
	return tpm2.RCSuccess
}

func (t *TPM) getTestResult(_ *call, _ *tpm2.GetTestResult, out *tpm2.GetTestResultResponse) tpm2.RC {
	if t.failed != nil {
		out.TestResult = tpm2.RCFailure
	}
	return tpm2.RCSuccess // testResult is TPM_RC_SUCCESS as well
}
