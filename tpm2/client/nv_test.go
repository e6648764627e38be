package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// testNV writes and reads indices of every kind, by password and by sessions
// that notice when a Name is wrong.
func testNV(t *testing.T, c *client.Client) {
	attrs := tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA | tpm2.NVWriteSTClear | tpm2.NVReadSTClear
	define := func(t *testing.T, typ tpm2.NVType, size int, more tpm2.NVAttributes) *client.NVIndex {
		t.Helper()
		i := must(c.NVDefine(owner(), tpm2.TPMSNVPublic{
			NVIndex: 0x01800200, NameAlg: tpm2.AlgSHA256, Attributes: (attrs | more).With(typ), DataSize: uint16(size),
		}, client.Secret([]byte("nv"))))(t)
		t.Cleanup(func() {
			if err := c.NVUndefine(owner(), i); err != nil {
				t.Error(err)
			}
		})
		return i
	}
	same := func(t *testing.T, i *client.NVIndex) {
		t.Helper()
		if asked := must(c.NVIndex(i.Handle, nil))(t); !bytes.Equal(asked.Name, i.Name) {
			t.Errorf("the TPM's Name is %x, ours %x (attributes %x, %x)", asked.Name, i.Name, asked.Public.Attributes, i.Public.Attributes)
		}
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 128)[:1900]
	for name, auth := range map[string]func(*testing.T, *client.NVIndex) client.Auth{
		"index's password": func(_ *testing.T, i *client.NVIndex) client.Auth { return i },
		"owner":            func(*testing.T, *client.NVIndex) client.Auth { return owner() },
		"index's session": func(t *testing.T, i *client.NVIndex) client.Auth {
			s := must(c.StartSession(client.SessionConfig{}))(t)
			t.Cleanup(func() { s.Close() })
			return s.Auth(i.Entity)
		},
		"owner's session": func(t *testing.T, i *client.NVIndex) client.Auth {
			s := must(c.StartSession(client.SessionConfig{}))(t)
			t.Cleanup(func() { s.Close() })
			return s.Auth(owner())
		},
		"bound session": func(t *testing.T, i *client.NVIndex) client.Auth {
			s := must(c.StartSession(client.SessionConfig{Bind: &i.Entity}))(t)
			t.Cleanup(func() { s.Close() })
			return s.Auth(i.Entity)
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := define(t, tpm2.NTOrdinary, len(data), 0)
			by := auth(t, i)
			if _, err := c.NVRead(by, i); !errors.Is(err, tpm2.RCNVUninitialized) {
				t.Errorf("reading what was never written: %v", err)
			}
			if err := c.NVWrite(by, i, data, 0); err != nil {
				t.Fatal(err)
			}
			if got := must(c.NVRead(by, i))(t); !bytes.Equal(got, data) {
				t.Error("what is read is not what was written")
			}
			if err := c.NVWrite(by, i, []byte("XYZ"), 10); err != nil {
				t.Fatal(err)
			}
			if got := must(c.NVReadAt(by, i, 5, 9))(t); string(got) != "9XYZd" {
				t.Errorf("got %q", got)
			}
			if err := c.NVWrite(by, i, data, 1); !errors.Is(err, tpm2.RCNVRange) {
				t.Errorf("writing beyond the end: %v", err)
			}
			if err := c.NVWriteLock(by, i); err != nil {
				t.Fatal(err)
			}
			if err := c.NVWrite(by, i, []byte("no"), 0); !errors.Is(err, tpm2.RCNVLocked) {
				t.Errorf("writing under lock: %v", err)
			}
			same(t, i)
			if err := c.NVReadLock(by, i); err != nil {
				t.Fatal(err)
			}
			if _, err := c.NVRead(by, i); !errors.Is(err, tpm2.RCNVLocked) {
				t.Errorf("reading under lock: %v", err)
			}
			same(t, i)
		})
	}
	t.Run("counter", func(t *testing.T) {
		i := define(t, tpm2.NTCounter, 8, 0)
		for range 2 {
			if err := c.NVIncrement(i, i); err != nil {
				t.Fatal(err)
			}
		}
		if got := must(c.NVRead(i, i))(t); got[7] < 2 {
			t.Errorf("got %x", got)
		}
		same(t, i)
	})
	t.Run("bits", func(t *testing.T) {
		i := define(t, tpm2.NTBits, 8, 0)
		if err := c.NVSetBits(i, i, 0x81); err != nil {
			t.Fatal(err)
		}
		if got := must(c.NVRead(i, i))(t); got[7] != 0x81 {
			t.Errorf("got %x", got)
		}
	})
	t.Run("extend", func(t *testing.T) {
		i := define(t, tpm2.NTExtend, 32, 0)
		if err := c.NVExtend(i, i, []byte("data")); err != nil {
			t.Fatal(err)
		}
		if got := must(c.NVRead(i, i))(t); len(got) != 32 {
			t.Errorf("got %x", got)
		}
		ak := newAK(t, c, client.AKTemplate(client.P256))
		if _, err := c.NVCertify(ak, i, i, 32, 0, []byte("nonce")); err != nil {
			t.Error(err)
		}
	})
	t.Run("changed authValue", func(t *testing.T) {
		p := must(client.NewPolicy(tpm2.AlgSHA256))(t)
		policy := p.CommandCode(tpm2.CCNVChangeAuth).AuthValue().Digest()
		i := must(c.NVDefine(owner(), tpm2.TPMSNVPublic{
			NVIndex: 0x01800201, NameAlg: tpm2.AlgSHA256, Attributes: attrs, DataSize: 8, AuthPolicy: policy,
		}, client.Secret([]byte("old"))))(t)
		defer c.NVUndefine(owner(), i)
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
		defer s.Close()
		if err := s.PolicyCommandCode(tpm2.CCNVChangeAuth); err != nil {
			t.Fatal(err)
		}
		if err := s.PolicyAuthValue(); err != nil {
			t.Fatal(err)
		}
		if err := c.Execute(&tpm2.NVChangeAuth{NVIndex: i.Handle, NewAuth: []byte("new")}, nil, s.Auth(i.Entity, tpm2.SessionDecrypt)); err != nil {
			t.Fatal(err)
		}
		i.Auth = client.Secret([]byte("new"))
		if err := c.NVWrite(i, i, []byte("12345678"), 0); err != nil {
			t.Error(err)
		}
	})
}

func testPCRs(t *testing.T, c *client.Client) {
	all := must(c.Banks())(t)
	all = append(all, client.Select(all[0].Hash, 3, 4)...) // once more
	values := must(c.ReadPCRs(all))(t)
	for _, b := range all {
		if len(values[b.Hash]) != 24 {
			t.Errorf("bank 0x%x: %d PCRs", uint16(b.Hash), len(values[b.Hash]))
		}
	}
	if _, err := c.ReadPCRs(client.Select(tpm2.AlgSHA3512, 1)); err == nil {
		t.Error("a bank that is not there was read")
	}
	if err := c.ResetPCR(16); err != nil {
		t.Fatal(err)
	}
	digests := must(c.EventPCR(16, []byte("event")))(t)
	values = must(c.ReadPCRs(client.Select(tpm2.AlgSHA256, 16)))(t)
	zeros := values[tpm2.AlgSHA256][16]
	if err := c.ResetPCR(16); err != nil {
		t.Fatal(err)
	}
	if err := c.ExtendPCR(16, digests...); err != nil {
		t.Fatal(err)
	}
	if got := must(c.ReadPCRs(client.Select(tpm2.AlgSHA256, 16)))(t); !bytes.Equal(got[tpm2.AlgSHA256][16], zeros) {
		t.Error("extending by an event's digests is not the event")
	}
	if err := c.ResetPCR(0); !errors.Is(err, tpm2.RCLocality) {
		t.Errorf("resetting PCR 0: %v", err)
	}
}
