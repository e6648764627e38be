package client_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// suite is what a TPM must do with this client, whoever made it.
var suite = []struct {
	name string
	test func(*testing.T, *client.Client)
}{
	{"basics", testBasics},
	{"sessions", testSessions},
	{"in between", testBetween},
	{"policies", testPolicies},
	{"PCRs", testPCRs},
	{"quotes", testQuotes},
	{"credentials", testCredentials},
	{"keys", testKeys},
	{"import", testImport},
	{"persistence", testPersistence},
	{"contexts", testContexts},
	{"NV", testNV},
	{"provisioning", testProvisioning},
	{"approved policies", testApproved},
	{"concurrency", testConcurrency},
	{"tpm2-tools", testTools},
}

func TestSwtpm(t *testing.T) {
	for _, tt := range suite {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, openSwtpm(t))
		})
	}
}
