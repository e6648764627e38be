package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// testPolicies compares the calculator with trial sessions, for every policy
// command that the TPM has.
func testPolicies(t *testing.T, c *client.Client) {
	signer := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	area := must(client.PublicArea(signer.Public(), tpm2.SignEncrypt|tpm2.UserWithAuth))(t)
	key := must(c.LoadPublic(area, tpm2.RHOwner))(t)
	defer c.Flush(key.Handle)
	index := must(c.NVDefine(owner(), tpm2.TPMSNVPublic{
		NVIndex: 0x01800100, NameAlg: tpm2.AlgSHA256, DataSize: 34,
		Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA,
	}, nil))(t)
	defer c.NVUndefine(owner(), index)

	sel := append(client.Select(tpm2.AlgSHA256, 0, 7, 16), client.Select(tpm2.AlgSHA384, 15, 23)...)
	values := must(c.ReadPCRs(sel))(t)
	ref := []byte("reference")
	d32 := bytes.Repeat([]byte{0xd1}, 32)
	operand := []byte{0, 0, 0, 1}

	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgSHA384} {
		digest := bytes.Repeat([]byte{0xd1}, alg.DigestSize())
		pcrs := must(values.Digest(alg, sel))(t)
		type step struct {
			cc   tpm2.CC
			soft func(*client.Policy)
			tpm  func(*client.Session) error
		}
		steps := map[string]step{
			"Signed": {tpm2.CCPolicySigned, func(p *client.Policy) { p.Signed(key.Name, ref) }, func(s *client.Session) error {
				cmd := tpm2.PolicySigned{PolicyRef: ref, NonceTPM: s.NonceTPM(), Expiration: 60}
				digest, err := client.PolicySignedDigest(tpm2.AlgSHA256, &cmd)
				if err != nil {
					return err
				}
				sig, err := client.SignDigest(signer, tpm2.AlgSHA256, digest)
				if err != nil {
					return err
				}
				cmd.Auth = *sig
				_, err = s.PolicySigned(key, cmd)
				return err
			}},
			"Secret": {tpm2.CCPolicySecret, func(p *client.Policy) { p.Secret(client.HierarchyName(tpm2.RHOwner), ref) },
				func(s *client.Session) error { return s.PolicySecret(owner(), ref) }},
			"PCR": {tpm2.CCPolicyPCR, func(p *client.Policy) { p.PCR(sel, pcrs) }, func(s *client.Session) error { return s.PolicyPCR(sel, nil) }},
			"Locality": {tpm2.CCPolicyLocality, func(p *client.Policy) { p.Locality(5) },
				func(s *client.Session) error { return s.PolicyLocality(5) }},
			"NV": {tpm2.CCPolicyNV, func(p *client.Policy) { p.NV(index.Name, operand, 2, tpm2.EOEq) },
				func(s *client.Session) error { return s.PolicyNV(index, index, operand, 2, tpm2.EOEq) }},
			"CounterTimer": {tpm2.CCPolicyCounterTimer, func(p *client.Policy) { p.CounterTimer(operand, 0, tpm2.EOUnsignedGT) },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyCounterTimer{PolicySession: s.Handle(), OperandB: operand, Operation: tpm2.EOUnsignedGT}, nil)
				}},
			"CommandCode": {tpm2.CCPolicyCommandCode, func(p *client.Policy) { p.CommandCode(tpm2.CCUnseal) },
				func(s *client.Session) error { return s.PolicyCommandCode(tpm2.CCUnseal) }},
			"PhysicalPresence": {tpm2.CCPolicyPhysicalPresence, func(p *client.Policy) { p.PhysicalPresence() },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyPhysicalPresence{PolicySession: s.Handle()}, nil)
				}},
			"CpHash": {tpm2.CCPolicyCpHash, func(p *client.Policy) { p.CpHash(digest) },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyCpHash{PolicySession: s.Handle(), CpHashA: digest}, nil)
				}},
			"NameHash": {tpm2.CCPolicyNameHash, func(p *client.Policy) { p.NameHash(digest) },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyNameHash{PolicySession: s.Handle(), NameHash: digest}, nil)
				}},
			"DuplicationSelect": {tpm2.CCPolicyDuplicationSelect, func(p *client.Policy) { p.DuplicationSelect(key.Name, index.Name) },
				func(s *client.Session) error { return s.PolicyDuplicationSelect(key.Name, index.Name, true) }},
			"DuplicationSelect any": {tpm2.CCPolicyDuplicationSelect, func(p *client.Policy) { p.DuplicationSelect(nil, index.Name) },
				func(s *client.Session) error { return s.PolicyDuplicationSelect(key.Name, index.Name, false) }},
			"Authorize": {tpm2.CCPolicyAuthorize, func(p *client.Policy) { p.Authorize(key.Name, ref) },
				func(s *client.Session) error {
					approved, err := s.PolicyDigest()
					if err != nil {
						return err
					}
					sig, err := client.SignPolicy(signer, area, approved, ref)
					if err != nil {
						return err
					}
					return s.PolicyAuthorize(area, ref, sig)
				}},
			"AuthValue":  {tpm2.CCPolicyAuthValue, func(p *client.Policy) { p.AuthValue() }, (*client.Session).PolicyAuthValue},
			"Password":   {tpm2.CCPolicyPassword, func(p *client.Policy) { p.Password() }, (*client.Session).PolicyPassword},
			"NVWritten":  {tpm2.CCPolicyNvWritten, func(p *client.Policy) { p.NVWritten(true) }, func(s *client.Session) error { return s.PolicyNVWritten(true) }},
			"NVWritten!": {tpm2.CCPolicyNvWritten, func(p *client.Policy) { p.NVWritten(false) }, func(s *client.Session) error { return s.PolicyNVWritten(false) }},
			"Template": {tpm2.CCPolicyTemplate, func(p *client.Policy) { p.Template(digest) },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyTemplate{PolicySession: s.Handle(), TemplateHash: digest}, nil)
				}},
			"Capability": {tpm2.CCPolicyCapability, func(p *client.Policy) {
				p.Capability(operand, 0, tpm2.EONeq, tpm2.CapTPMProperties, uint32(tpm2.PTManufacturer))
			}, func(s *client.Session) error {
				return c.Execute(&tpm2.PolicyCapability{PolicySession: s.Handle(), OperandB: operand, Operation: tpm2.EONeq,
					Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTManufacturer)}, nil)
			}},
			"Parameters": {tpm2.CCPolicyParameters, func(p *client.Policy) { p.Parameters(digest) },
				func(s *client.Session) error {
					return c.Execute(&tpm2.PolicyParameters{PolicySession: s.Handle(), PHash: digest}, nil)
				}},
		}
		or := [][]byte{digest, nil, digest}
		for name, st := range steps {
			t.Run(name, func(t *testing.T) {
				if !must(c.Has(st.cc))(t) {
					t.Skip("this TPM does not have the command")
				}
				for _, before := range []bool{false, true} { // also on top of another policy
					s := must(c.StartSession(client.SessionConfig{Type: tpm2.SETrial, Hash: alg}))(t)
					defer s.Close()
					p := must(client.NewPolicy(alg))(t)
					if before {
						p.AuthValue()
						if err := s.PolicyAuthValue(); err != nil {
							t.Fatal(err)
						}
					}
					st.soft(p)
					if err := st.tpm(s); err != nil {
						t.Fatal(err)
					}
					if got := must(s.PolicyDigest())(t); !bytes.Equal(got, p.Digest()) {
						t.Fatalf("0x%x: TPM %x, calculated %x", uint16(alg), got, p.Digest())
					}
					// And under an OR.
					or[1] = p.Digest()
					if err := s.PolicyOR(or...); err != nil {
						t.Fatal(err)
					}
					if got := must(s.PolicyDigest())(t); !bytes.Equal(got, p.OR(or...).Digest()) {
						t.Fatalf("OR: TPM %x, calculated %x", got, p.Digest())
					}
				}
			})
		}
	}

	t.Run("AuthorizeNV", func(t *testing.T) {
		p := must(client.NewPolicy(tpm2.AlgSHA256))(t)
		approved := p.AuthValue().Digest()
		content := append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.AlgSHA256)), approved...)
		if err := c.NVWrite(owner(), index, content, 0); err != nil {
			t.Fatal(err)
		}
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
		defer s.Close()
		if err := s.PolicyAuthValue(); err != nil {
			t.Fatal(err)
		}
		if err := c.Execute(&tpm2.PolicyAuthorizeNV{AuthHandle: index.Handle, NVIndex: index.Handle, PolicySession: s.Handle()}, nil, index); err != nil {
			t.Fatal(err)
		}
		if got := must(s.PolicyDigest())(t); !bytes.Equal(got, p.AuthorizeNV(index.Name).Digest()) {
			t.Errorf("TPM %x, calculated %x", got, p.Digest())
		}
	})

	t.Run("one command", func(t *testing.T) { testOneCommand(t, c) })
	t.Run("seal to a policy", func(t *testing.T) { testSealPolicy(t, c, d32) })
}

// testOneCommand authorizes for the Owner by policies that allow one command
// with its parameters, its entities or its template.
func testOneCommand(t *testing.T, c *client.Client) {
	create := &tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: client.SRKTemplate(client.P256)}
	other := &tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: client.SigningTemplate(client.P256)}
	name := client.HierarchyName(tpm2.RHOwner)
	for kind, by := range map[string]struct {
		soft func(p *client.Policy) (digest []byte)
		tpm  func(h tpm2.Handle, digest []byte) tpm2.Command
	}{
		"CpHash": {func(p *client.Policy) []byte { d := p.CpHashOf(create, name); p.CpHash(d); return d },
			func(h tpm2.Handle, d []byte) tpm2.Command { return &tpm2.PolicyCpHash{PolicySession: h, CpHashA: d} }},
		"NameHash": {func(p *client.Policy) []byte { d := p.NameHashOf(name); p.NameHash(d); return d },
			func(h tpm2.Handle, d []byte) tpm2.Command { return &tpm2.PolicyNameHash{PolicySession: h, NameHash: d} }},
		"Template": {func(p *client.Policy) []byte { d := p.TemplateHash(&create.InPublic); p.Template(d); return d },
			func(h tpm2.Handle, d []byte) tpm2.Command {
				return &tpm2.PolicyTemplate{PolicySession: h, TemplateHash: d}
			}},
	} {
		p := must(client.NewPolicy(tpm2.AlgSHA256))(t)
		digest := by.soft(p)
		set := &tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, AuthPolicy: p.Digest(), HashAlg: tpm2.AlgSHA256}
		if err := c.Execute(set, nil, owner()); err != nil {
			t.Fatal(err)
		}
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
		for _, cmd := range []*tpm2.CreatePrimary{create, other} {
			if err := s.PolicyRestart(); err != nil {
				t.Fatal(err)
			}
			if err := c.Execute(by.tpm(s.Handle(), digest), nil); err != nil {
				t.Fatal(err)
			}
			var rsp tpm2.CreatePrimaryResponse
			err := c.Execute(cmd, &rsp, s.Auth(owner()))
			if allowed := cmd == create || kind == "NameHash"; allowed != (err == nil) {
				t.Errorf("%s: allowed %v, got %v", kind, allowed, err)
			}
			if err == nil {
				c.Flush(rsp.ObjectHandle)
			}
		}
		s.Close()
	}
	if err := c.Execute(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, HashAlg: tpm2.AlgNull}, nil, owner()); err != nil {
		t.Fatal(err)
	}
	// An index that only one command may delete: its authValue is gone in the response.
	policy := must(client.NewPolicy(tpm2.AlgSHA256))(t).CommandCode(tpm2.CCNVUndefineSpaceSpecial).AuthValue().Digest()
	platform := client.Hierarchy(tpm2.RHPlatform, nil)
	i := must(c.NVDefine(platform, tpm2.TPMSNVPublic{
		NVIndex: 0x01400001, NameAlg: tpm2.AlgSHA256, DataSize: 8, AuthPolicy: policy,
		Attributes: tpm2.NVPolicyDelete | tpm2.NVPlatformCreate | tpm2.NVPPWrite | tpm2.NVPPRead | tpm2.NVAuthRead | tpm2.NVNoDA,
	}, client.Secret([]byte("special"))))(t)
	s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
	defer s.Close()
	if err := s.PolicyCommandCode(tpm2.CCNVUndefineSpaceSpecial); err != nil {
		t.Fatal(err)
	}
	if err := s.PolicyAuthValue(); err != nil {
		t.Fatal(err)
	}
	if err := c.Execute(&tpm2.NVUndefineSpaceSpecial{NVIndex: i.Handle, Platform: platform.Handle}, nil, s.Auth(i.Entity), platform); err != nil {
		t.Error(err)
	}
}

// testSealPolicy seals to PCRs together with an authValue, and opens it with
// HMAC, with password, not after the PCR has moved.
func testSealPolicy(t *testing.T, c *client.Client, d32 []byte) {
	srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
	defer c.Flush(srk.Handle)
	sel := client.Select(tpm2.AlgSHA256, 23)
	if err := c.ResetPCR(23); err != nil {
		t.Fatal(err)
	}
	values := must(c.ReadPCRs(sel))(t)
	p := must(client.NewPolicy(tpm2.AlgSHA256))(t)
	policy := p.PCR(sel, must(values.Digest(tpm2.AlgSHA256, sel))(t)).AuthValue().Digest()
	auth := client.Secret([]byte("pin"))
	blob := must(c.Seal(srk, []byte("disk key"), policy, auth))(t)
	item := must(c.Load(srk, blob, auth))(t)
	defer c.Flush(item.Handle)
	for name, fulfil := range map[string]func(*client.Session) error{
		"AuthValue": (*client.Session).PolicyAuthValue, "Password": (*client.Session).PolicyPassword,
	} {
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Salt: srk, Bind: &item.Entity}))(t)
		for range 2 {
			if err := s.PolicyPCR(sel, nil); err != nil {
				t.Fatal(err)
			}
			if err := fulfil(s); err != nil {
				t.Fatal(err)
			}
			if got := must(c.Unseal(s.Auth(item.Entity, tpm2.SessionEncrypt)))(t); string(got) != "disk key" {
				t.Fatalf("%s: got %q", name, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Unseal(item); err == nil {
		t.Error("it opened without the policy")
	}
	if err := c.ExtendPCR(23, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: d32}); err != nil {
		t.Fatal(err)
	}
	s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
	defer s.Close()
	if err := s.PolicyPCR(sel, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PolicyAuthValue(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unseal(s.Auth(item.Entity)); err == nil {
		t.Error("it opened after the PCR moved")
	}
}
