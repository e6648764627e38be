package client_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// BenchmarkExecute is what this side of the wire costs.
func BenchmarkExecute(b *testing.B) {
	rsp := response(tpm2.STNoSessions, 0, append([]byte{0, 32}, make([]byte, 32)...)...)
	c := canned(rsp)
	b.Run("no session", func(b *testing.B) {
		b.ReportAllocs()
		cmd, got := &tpm2.GetRandom{BytesRequested: 32}, new(tpm2.GetRandomResponse)
		for b.Loop() {
			if err := c.Execute(cmd, got); err != nil {
				b.Fatal(err)
			}
		}
	})
	c = canned(response(tpm2.STSessions, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
	b.Run("password", func(b *testing.B) {
		b.ReportAllocs()
		cmd, got, auth := &tpm2.PCRReset{PCRHandle: 16}, new(tpm2.PCRResetResponse), client.PCR(16)
		for b.Loop() {
			if err := c.Execute(cmd, got, auth); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkEngine is a command with our engine at the other end, in this process.
func BenchmarkEngine(b *testing.B) { benchmarkRandom(b, openEngine(b)) }

// BenchmarkSwtpm is the same with Debian's swtpm behind a unix socket.
func BenchmarkSwtpm(b *testing.B) { benchmarkRandom(b, openSwtpm(b)) }

func benchmarkRandom(b *testing.B, c *client.Client) {
	s := must(c.StartSession(client.SessionConfig{Bind: &client.Entity{Handle: tpm2.RHOwner}}))(b)
	cmd, got := &tpm2.GetRandom{BytesRequested: 32}, new(tpm2.GetRandomResponse)
	for name, auths := range map[string][]client.Auth{
		"no session": nil, "encrypted": {s.Extra(tpm2.SessionEncrypt)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Execute(cmd, got, auths...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
