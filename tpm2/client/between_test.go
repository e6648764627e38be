package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// testBetween puts somebody between client and TPM who changes what they like.
func testBetween(t *testing.T, c *client.Client) {
	srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
	defer c.Flush(srk.Handle)
	var change func(cmd, rsp []byte) []byte
	x := client.New(client.Direct(func(cmd []byte) []byte {
		rsp, err := c.Transmit(cmd)
		if err != nil {
			t.Error(err)
		}
		if change != nil {
			rsp = change(cmd, rsp)
		}
		return rsp
	}))
	t.Run("response", func(t *testing.T) {
		for at := range 200 {
			s := must(x.StartSession(client.SessionConfig{Salt: srk}))(t)
			done := false
			change = func(_, rsp []byte) []byte {
				if done = at >= len(rsp); !done {
					rsp[at] ^= 0x40
				}
				return rsp
			}
			_, err := x.GetRandom(16, s.Extra(tpm2.SessionEncrypt))
			change = nil
			if done {
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				return
			}
			if err == nil {
				t.Errorf("octet %d may be changed", at)
			}
			if at < 6 { // tag and size: the connection is given up
				x.Close()
				c.Flush(s.Handle())
				x = client.New(client.Direct(func(cmd []byte) []byte {
					rsp, _ := c.Transmit(cmd)
					if change != nil {
						rsp = change(cmd, rsp)
					}
					return rsp
				}))
			} else if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		t.Error("the response never ended")
	})
	t.Run("command", func(t *testing.T) {
		// A change on the way there is for the TPM to notice.
		var at int
		y := client.New(client.Direct(func(cmd []byte) []byte {
			cmd = bytes.Clone(cmd)
			if cmd[9] == 0x82 && at > 0 { // PCR_Extend
				cmd[at] ^= 1
			}
			rsp, err := c.Transmit(cmd)
			if err != nil {
				t.Error(err)
			}
			return rsp
		}))
		digest := bytes.Repeat([]byte{7}, 32)
		for _, at = range []int{13, 90, 120} { // the PCR, the HMAC, the digest
			s := must(y.StartSession(client.SessionConfig{Salt: srk}))(t)
			cmd := &tpm2.PCRExtend{PCRHandle: 16, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: digest}}}
			if err := y.Execute(cmd, nil, s.Auth(client.PCR(16))); !errors.Is(err, tpm2.RCAuthFail) && !errors.Is(err, tpm2.RCBadAuth) {
				t.Errorf("octet %d: %v", at, err)
			}
			s.Close()
		}
		at = 0
	})
	t.Run("another object", func(t *testing.T) {
		// The handle is of another object than the one whose Name is known.
		auth := client.Secret([]byte("same"))
		one := must(sealed(c, srk, "one", auth))(t)
		two := must(sealed(c, srk, "two", auth))(t)
		defer c.Flush(one.Handle)
		s := must(c.StartSession(client.SessionConfig{}))(t)
		defer s.Close()
		c.Flush(two.Handle)
		mixed := client.Entity{Handle: one.Handle, Name: two.Name, Auth: auth}
		if _, err := c.Unseal(s.Auth(mixed)); !errors.Is(err, tpm2.RCAuthFail) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("busy", func(t *testing.T) {
		calls := 0
		y := client.New(client.Direct(func(cmd []byte) []byte {
			if calls++; calls%3 != 0 {
				return response(tpm2.STNoSessions, tpm2.RCRetry)
			}
			rsp, _ := c.Transmit(cmd)
			return rsp
		}))
		s := must(y.StartSession(client.SessionConfig{Salt: srk}))(t)
		for range 3 {
			if _, err := y.GetRandom(16, s.Extra(tpm2.SessionEncrypt)); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("once", func(t *testing.T) {
		before := len(must(c.Handles(tpm2.HTHMACSession))(t))
		for _, auth := range []string{"same", "wrong"} {
			item := must(sealed(c, srk, "data", client.Secret([]byte("same"))))(t)
			s := must(c.StartSession(client.SessionConfig{}))(t)
			_, err := c.Unseal(s.Auth(client.Entity{Handle: item.Handle, Name: item.Name, Auth: client.Secret([]byte(auth))}).Once())
			if (err == nil) != (auth == "same") {
				t.Error(err)
			}
			c.Flush(item.Handle)
		}
		if after := len(must(c.Handles(tpm2.HTHMACSession))(t)); after != before {
			t.Errorf("%d sessions before, %d after", before, after)
		}
	})
}
