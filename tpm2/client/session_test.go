package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func endorsement() client.Entity { return client.Hierarchy(tpm2.RHEndorsement, nil) }
func owner() client.Entity       { return client.Hierarchy(tpm2.RHOwner, nil) }

// testSessions seals and unseals under every kind of session that can authorize
// it, with an authValue, in both directions of parameter encryption.
func testSessions(t *testing.T, c *client.Client) {
	srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
	t.Cleanup(func() { c.Flush(srk.Handle) })
	salts := map[string]*client.Key{"unsalted": nil}
	for name, kind := range map[string]client.EK{"RSA": client.EKRSA2048, "P-256": client.EKP256, "P-384": client.EKHighP384} {
		k := must(c.CreatePrimary(endorsement(), client.EKTemplate(kind)))(t)
		at := tpm2.Handle(0x81010001) + tpm2.Handle(kind)
		p := must(c.Persist(owner(), k, at))(t)
		c.Flush(k.Handle)
		t.Cleanup(func() { c.Evict(owner(), at) })
		salts["salted "+name] = p
	}
	auth := client.Secret([]byte("open sesame\x00\x00"))
	item := must(sealed(c, srk, "data", auth))(t)
	t.Cleanup(func() { c.Flush(item.Handle) })
	bindSame := item.Entity
	bindOther := srk.Entity
	for sname, salt := range salts {
		for bname, bind := range map[string]*client.Entity{"unbound": nil, "bound": &bindSame, "bound elsewhere": &bindOther} {
			for yname, sym := range map[string]tpm2.TPMTSymDef{
				"AES-128": client.AESCFB(128), "AES-256": client.AESCFB(256),
				"XOR": client.XOR(tpm2.AlgSHA256), "XOR of another hash": client.XOR(tpm2.AlgSHA1),
			} {
				for _, hash := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384} {
					if hash != tpm2.AlgSHA256 && yname != "AES-128" {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s, %s, 0x%x", sname, bname, yname, uint16(hash)), func(t *testing.T) {
						s := must(c.StartSession(client.SessionConfig{Hash: hash, Salt: salt, Bind: bind, Symmetric: sym}))(t)
						defer s.Close()
						for range 2 {
							var rsp tpm2.UnsealResponse
							if err := c.Execute(&tpm2.Unseal{ItemHandle: item.Handle}, &rsp, s.Auth(item.Entity, tpm2.SessionEncrypt)); err != nil {
								t.Fatal(err)
							}
							if string(rsp.OutData) != "data" {
								t.Fatalf("got %q", rsp.OutData)
							}
						}
						x := must(c.StartSession(client.SessionConfig{Hash: hash, Salt: salt, Symmetric: sym}))(t)
						defer x.Close()
						// The same session authorizes another entity and decrypts a parameter.
						second := must(sealedBy(c, s.Auth(srk.Entity, tpm2.SessionDecrypt), srk, "more", nil))(t)
						defer c.Flush(second.Handle)
						// One authorizes, the same session over again in front of an extra one that encrypts.
						var rsp tpm2.UnsealResponse
						if err := c.Execute(&tpm2.Unseal{ItemHandle: second.Handle}, &rsp, s.Auth(second.Entity), x.Extra(tpm2.SessionEncrypt)); err != nil {
							t.Fatal(err)
						}
						if string(rsp.OutData) != "more" {
							t.Fatalf("got %q", rsp.OutData)
						}
						// Only extra sessions, one to audit and one to encrypt.
						if b := must(c.GetRandom(16, x.Extra(tpm2.SessionEncrypt), s.Extra(tpm2.SessionAudit)))(t); len(b) != 16 {
							t.Fatalf("got %d octets", len(b))
						}
						if b := must(c.GetRandom(16, s.Extra(tpm2.SessionAudit), x.Extra(tpm2.SessionEncrypt)))(t); len(b) != 16 {
							t.Fatalf("got %d octets", len(b))
						}
						// What has audited is no longer bound.
						if _, err := c.Unseal(s.Auth(item.Entity, tpm2.SessionAudit)); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
		}
	}
	t.Run("wrong authValue", func(t *testing.T) {
		s := must(c.StartSession(client.SessionConfig{}))(t)
		defer s.Close()
		wrong := item.Entity
		wrong.Auth = client.Secret([]byte("no"))
		err := c.Execute(&tpm2.Unseal{ItemHandle: item.Handle}, nil, s.Auth(wrong))
		var rc tpm2.RC
		if !errors.Is(err, tpm2.RCAuthFail) || !errors.As(err, &rc) || rc != tpm2.RCAuthFail.Session(1) {
			t.Fatalf("got %v", err)
		}
		// The session goes on.
		if err := c.Execute(&tpm2.Unseal{ItemHandle: item.Handle}, nil, s.Auth(item.Entity).Once()); err != nil {
			t.Fatal(err)
		}
		if err := c.Execute(&tpm2.Unseal{ItemHandle: item.Handle}, nil, s.Auth(item.Entity)); err == nil {
			t.Fatal("an ended session authorized")
		}
	})
	t.Run("decrypt and encrypt in different extra sessions", func(t *testing.T) {
		a := must(c.StartSession(client.SessionConfig{}))(t)
		d := must(c.StartSession(client.SessionConfig{Salt: salts["salted P-256"]}))(t)
		e := must(c.StartSession(client.SessionConfig{Salt: salts["salted RSA"], Symmetric: client.XOR(tpm2.AlgSHA256)}))(t)
		defer a.Close()
		defer d.Close()
		defer e.Close()
		for range 2 {
			_, _, err := c.Create(a.Auth(srk.Entity), client.NewObject{
				Public: client.SealTemplate(tpm2.AlgSHA256, nil), Data: []byte("x"), Auth: auth,
			}, d.Extra(tpm2.SessionDecrypt), e.Extra(tpm2.SessionEncrypt))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = c.Create(srk, client.NewObject{
				Public: client.SealTemplate(tpm2.AlgSHA256, nil), Data: []byte("x"), Auth: auth,
			}, e.Extra(tpm2.SessionEncrypt), d.Extra(tpm2.SessionDecrypt))
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("changed authValue", func(t *testing.T) {
		o := owner()
		for _, bind := range []bool{false, true} {
			cfg := client.SessionConfig{Salt: salts["salted P-256"]}
			if bind {
				cfg.Bind = &o
			}
			s := must(c.StartSession(cfg))(t)
			for _, next := range []string{"one", "two", "two", ""} {
				err := c.Execute(&tpm2.HierarchyChangeAuth{AuthHandle: o.Handle, NewAuth: []byte(next)}, nil, s.Auth(o, tpm2.SessionDecrypt))
				if err != nil {
					t.Fatalf("bound %v, to %q: %v", bind, next, err)
				}
				o.Auth = client.Secret([]byte(next))
			}
			s.Close()
		}
	})
}

func sealed(c *client.Client, srk *client.Key, data string, auth client.AuthValue) (*client.Key, error) {
	return sealedBy(c, srk, srk, data, auth)
}

func sealedBy(c *client.Client, by client.Auth, srk *client.Key, data string, auth client.AuthValue) (*client.Key, error) {
	b, _, err := c.Create(by, client.NewObject{Public: client.SealTemplate(tpm2.AlgSHA256, nil), Data: []byte(data), Auth: auth})
	if err != nil {
		return nil, err
	}
	return c.Load(srk, b, auth)
}

func testBasics(t *testing.T, c *client.Client) {
	if err := c.Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	a, b := must(c.GetRandom(100))(t), must(c.GetRandom(100))(t)
	if len(a) != 100 || bytes.Equal(a, b) {
		t.Errorf("GetRandom: %x, %x", a, b)
	}
	if p := must(c.Properties(tpm2.PTFamilyIndicator))(t); p[tpm2.PTFamilyIndicator] != 0x322e3000 || p[tpm2.PTPCRCount] != 24 {
		t.Errorf("fixed properties: %x", p)
	}
	if p := must(c.Properties(tpm2.PTPermanent))(t); len(p) == 0 || p[tpm2.PTManufacturer] != 0 {
		t.Errorf("variable properties: %x", p)
	}
	if len(must(c.Commands())(t)) < 50 {
		t.Error("few commands")
	}
	for cc, want := range map[tpm2.CC]bool{tpm2.CCQuote: true, 0x1fff: false} {
		if got := must(c.Has(cc))(t); got != want {
			t.Errorf("Has(0x%x) = %v", cc, got)
		}
	}
	if algs := must(c.Algorithms())(t); algs[tpm2.AlgSHA256] != tpm2.AlgAttrHash {
		t.Errorf("algorithms: %x", algs)
	}
	if len(must(c.Curves())(t)) < 2 {
		t.Error("few curves")
	}
	err := c.Execute(&tpm2.ReadPublic{ObjectHandle: 0x80ffffff}, nil)
	if !errors.Is(err, tpm2.RCReferenceH0) && !errors.Is(err, tpm2.RCHandle) && !errors.Is(err, tpm2.RCValue) {
		t.Errorf("reading nothing: %v", err)
	}
	if err := c.Shutdown(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
}
