package client_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
	"github.com/vouchsafe/vouchsafe/tpm2/engine"
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

func TestEngine(t *testing.T) {
	for _, tt := range suite {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, openEngine(t))
		})
	}
}

// openEngine makes a TPM of ours in this process and starts it.
func openEngine(t testing.TB) *client.Client {
	t.Helper()
	tpm, err := engine.Manufacture(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(client.Direct(func(cmd []byte) []byte { return tpm.Execute(0, cmd, nil) }))
	if err := c.Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	return c
}
