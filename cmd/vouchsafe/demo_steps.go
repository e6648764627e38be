package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// demo is what the steps hand on to each other.
type demo struct {
	ctx  context.Context
	say  func(en, zh string) string
	lang finding.Lang
	dir  string // temporary: state and sockets
	keep string // evidence, or ""

	key      vtpm.Key
	issuer   ca.Issuer
	stop     func() // ends the running vTPM
	tpm      *client.Client
	owner    client.Entity
	srk, ak  *client.Key
	secret   []byte
	sealedIn *client.Blob
	pcrs     []tpm2.TPMSPCRSelection
}

// demoPCRs are the state that the secret is sealed to: Secure Boot policy and shim's MOK list.
var demoPCRs = []int{7, 14}

func newDemo(ctx context.Context, a *app, keep string) (*demo, error) {
	dir, err := os.MkdirTemp("", "vouchsafe-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	return &demo{ctx: ctx, say: a.say, lang: a.lang(), dir: dir, keep: keep, key: vtpm.Key{Secret: secret.Random(32)}, pcrs: client.Select(tpm2.AlgSHA256, demoPCRs...)}, nil
}

func (d *demo) close() {
	d.powerOff()
	os.RemoveAll(d.dir)
}

func (d *demo) config(key vtpm.Key) vtpm.Config {
	return vtpm.Config{Dir: filepath.Join(d.dir, "state"), Key: key, Log: slog.New(slog.DiscardHandler)}
}

// evidence keeps a file for other people's tools, when that is wanted.
func (d *demo) evidence(name string, data []byte) error {
	if d.keep == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(d.keep, name), data, 0o600)
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// powerOn opens the vTPM from its state and connects to it over its socket, as a guest's QEMU does.
func (d *demo) powerOn() error {
	instance, err := vtpm.Open(d.config(d.key))
	if err != nil {
		return err
	}
	data, err := net.Listen("unix", filepath.Join(d.dir, "data"))
	if err != nil {
		return errors.Join(err, instance.Close())
	}
	ctx, cancel := context.WithCancel(d.ctx)
	served := make(chan error, 1)
	if err := instance.PowerOn(swtpm.Peer{}, false); err != nil {
		cancel()
		return errors.Join(err, data.Close(), instance.Close())
	}
	go func() {
		s := &swtpm.Server{Device: instance, Data: data}
		served <- s.Serve(ctx)
	}()
	d.stop = func() {
		if d.tpm != nil {
			d.tpm.Close()
		}
		cancel()
		<-served
		data.Close()
		instance.Close()
	}
	if d.tpm, err = client.Open("unix:" + filepath.Join(d.dir, "data")); err != nil {
		return err
	}
	return d.tpm.Startup(tpm2.SUClear)
}

func (d *demo) powerOff() {
	if d.stop != nil {
		d.stop()
		d.stop, d.tpm = nil, nil
	}
}

func (d *demo) made() (string, error) {
	var err error
	if d.issuer, err = ca.NewLocalCA("vouchsafe demo CA", time.Now()); err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(d.dir, "state"), 0o700); err != nil {
		return "", err
	}
	instance, err := vtpm.Open(d.config(d.key))
	if err != nil {
		return "", err
	}
	eks, err := instance.Provision(vtpm.Provisioning{EKs: true, Certify: func(ek vtpm.EK) ([]byte, error) {
		return d.issuer.IssueEK(ca.EK{Public: ek.Public, CommonName: "demo"}, ca.TPM(vtpm.Identity()), time.Now())
	}})
	if err != nil {
		return "", errors.Join(err, instance.Close())
	}
	if err := instance.Close(); err != nil {
		return "", err
	}
	var names []string
	for _, ek := range eks {
		names = append(names, ek.Name)
		if err := d.evidence("ek-"+ek.Name+".pem", certPEM(ek.Certificate)); err != nil {
			return "", err
		}
	}
	if err := d.evidence("ca.pem", certPEM(d.issuer.Certificate.Raw)); err != nil {
		return "", err
	}
	return fmt.Sprintf(d.say("endorsement keys %s, each with a certificate in the TPM; state sealed on disk", "背书密钥 %s，证书均已写入 TPM；磁盘上的状态已加密"), strings.Join(names, ", ")), d.powerOn()
}

// genuine does what a relying party does: it believes the certificate because of
// the CA, and the TPM because it can open what was encrypted to that certificate's key.
func (d *demo) genuine() (string, error) {
	cert, err := d.tpm.ReadCertificate(client.EKP256.CertificateIndex())
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.issuer.Certificate)
	// The alternative name of an EK certificate is a directory name, which Go leaves to us.
	cert.UnhandledCriticalExtensions = nil
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return "", fmt.Errorf("verifying the EK certificate: %w", err)
	}
	endorsement := client.Hierarchy(tpm2.RHEndorsement, nil)
	ek, err := d.tpm.CreatePrimary(endorsement, client.EKTemplate(client.EKP256))
	if err != nil {
		return "", err
	}
	defer d.tpm.Flush(ek.Handle)
	public, err := client.PublicKey(&ek.Public)
	if err != nil {
		return "", err
	}
	if k, ok := cert.PublicKey.(interface{ Equal(any) bool }); ok && !k.Equal(public) {
		return "", errors.New("the certificate is for another key")
	}
	if d.ak, err = d.tpm.CreatePrimary(endorsement, client.AKTemplate(client.P256)); err != nil {
		return "", err
	}
	// Encrypted to the certificate's key, for this attestation key's Name alone (Part 1, 21).
	challenge := make([]byte, 32)
	rand.Read(challenge)
	credential, err := client.MakeCredential(&ek.Public, d.ak.Name, challenge)
	if err != nil {
		return "", err
	}
	session, err := d.tpm.EKSession(ek, endorsement)
	if err != nil {
		return "", err
	}
	defer session.Close()
	answer, err := d.tpm.ActivateCredential(d.ak.Entity, session.Auth(ek.Entity), credential)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(answer, challenge) {
		return "", errors.New("the challenge came back changed")
	}
	return fmt.Sprintf(d.say("certificate by %q verified; the challenge for attestation key %x… came back", "已验证 %q 签发的证书；发给证明密钥 %x… 的挑战已正确返回"), d.issuer.Certificate.Subject.CommonName, d.ak.Name[2:8]), nil
}

func (d *demo) owned() (string, error) {
	auth := make([]byte, 32)
	rand.Read(auth)
	open := client.Hierarchy(tpm2.RHOwner, nil)
	salt, err := d.tpm.CreatePrimary(open, client.SRKTemplate(client.P256))
	if err != nil {
		return "", err
	}
	defer d.tpm.Flush(salt.Handle)
	s, err := d.tpm.StartSession(client.SessionConfig{Salt: salt})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if d.owner, err = d.tpm.ChangeAuth(s.Auth(open, tpm2.SessionDecrypt), client.Secret(auth)); err != nil {
		return "", err
	}
	if d.srk, err = d.tpm.Persist(s.Auth(d.owner), salt, client.SRKHandle); err != nil {
		return "", err
	}
	if _, err := d.tpm.CreatePrimary(open, client.SRKTemplate(client.P256)); !errors.Is(err, tpm2.RCBadAuth.Session(1)) {
		return "", fmt.Errorf("the old, empty password was not refused as it must be: %v", err)
	}
	return fmt.Sprintf(d.say("owner's password set over an encrypted session; storage root key at %v; the empty password is refused", "已通过加密会话设置所有者口令；存储根密钥位于 %v；空口令被拒绝"), client.SRKHandle), nil
}

// seal and unseal cross the socket encrypted, under a session salted with the storage root key.
func (d *demo) sealed() (string, error) {
	values, err := d.tpm.ReadPCRs(d.pcrs)
	if err != nil {
		return "", err
	}
	digest, err := values.Digest(tpm2.AlgSHA256, d.pcrs)
	if err != nil {
		return "", err
	}
	policy, err := client.NewPolicy(tpm2.AlgSHA256)
	if err != nil {
		return "", err
	}
	d.secret = make([]byte, 32)
	rand.Read(d.secret)
	s, err := d.tpm.StartSession(client.SessionConfig{Salt: d.srk})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if d.sealedIn, err = d.tpm.Seal(s.Auth(d.srk.Entity, tpm2.SessionDecrypt), d.secret, policy.PCR(d.pcrs, digest).Digest(), nil); err != nil {
		return "", err
	}
	if err := d.opens(); err != nil {
		return "", err
	}
	return fmt.Sprintf(d.say("32 octets sealed to PCRs %v of SHA-256; opened once, as a check", "32 字节已封存到 SHA-256 的 PCR %v；试开一次，成功"), demoPCRs), nil
}

// unseal asks for the secret in the state that the machine is in now.
func (d *demo) unseal() ([]byte, error) {
	item, err := d.tpm.Load(d.srk.Entity, d.sealedIn, nil)
	if err != nil {
		return nil, err
	}
	defer d.tpm.Flush(item.Handle)
	s, err := d.tpm.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Salt: d.srk})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.PolicyPCR(d.pcrs, nil); err != nil {
		return nil, err
	}
	return d.tpm.Unseal(s.Auth(item.Entity, tpm2.SessionEncrypt))
}

func (d *demo) opens() error {
	got, err := d.unseal()
	switch {
	case err != nil:
		return err
	case !bytes.Equal(got, d.secret):
		return errors.New("what was unsealed is not what was sealed")
	}
	return nil
}

// quote has the PCRs signed over a fresh nonce and verifies all of it without the TPM's help.
func (d *demo) quote(name string) (client.PCRValues, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	values, err := d.tpm.ReadPCRs(d.pcrs)
	if err != nil {
		return nil, err
	}
	q, err := d.tpm.Quote(d.ak.Entity, nonce, d.pcrs)
	if err != nil {
		return nil, err
	}
	attest, err := client.VerifyQuote(&d.ak.Public, q.Attest, q.Signature, nonce)
	if err != nil {
		return nil, err
	}
	if err := client.CheckPCRs(attest, tpm2.AlgSHA256, values); err != nil {
		return nil, err
	}
	for file, data := range map[string][]byte{".msg": q.Attest, ".sig": q.Signature, ".nonce": fmt.Appendf(nil, "%x\n", nonce)} {
		if err := d.evidence(name+file, data); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (d *demo) quoted() (string, error) {
	if _, err := d.quote("quote"); err != nil {
		return "", err
	}
	if d.keep != "" {
		key, err := client.PublicKey(&d.ak.Public)
		if err != nil {
			return "", err
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return "", err
		}
		err = errors.Join(d.evidence("ak.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), d.evidence("README.txt", []byte(evidenceReadme)))
		if err != nil {
			return "", err
		}
	}
	return d.say("signature, nonce and PCR digest verified without the TPM", "签名、随机数和 PCR 摘要均已在 TPM 之外验证"), nil
}

const evidenceReadme = `What the demo left, and what other people's tools make of it:

  openssl verify -CAfile ca.pem -ignore_critical ek-*.pem
  tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -g sha256 -q $(cat quote.nonce)
  tpm2_checkquote -u ak.pem -m quote-changed.msg -s quote-changed.sig -g sha256 -q $(cat quote-changed.nonce)
`

func (d *demo) changed() (string, error) {
	before, err := d.tpm.ReadPCRs(d.pcrs)
	if err != nil {
		return "", err
	}
	if _, err := d.tpm.EventPCR(14, []byte("a key that nobody enrolled")); err != nil {
		return "", err
	}
	after, err := d.tpm.ReadPCRs(d.pcrs)
	if err != nil {
		return "", err
	}
	was, is := before[tpm2.AlgSHA256][14], after[tpm2.AlgSHA256][14]
	if bytes.Equal(was, is) {
		return "", errors.New("PCR 14 is as it was")
	}
	return fmt.Sprintf(d.say("PCR 14 was %x…, is %x…", "PCR 14 原为 %x…，现为 %x…"), was[:4], is[:4]), nil
}

func (d *demo) shut() (string, error) {
	_, err := d.unseal()
	if !errors.Is(err, tpm2.RCPolicyFail.Session(1)) {
		return "", fmt.Errorf("the secret was not refused as it must be: %v", err)
	}
	if _, err := d.quote("quote-changed"); err != nil {
		return "", err
	}
	return d.say("TPM_RC_POLICY_FAIL: the policy wants PCR 14 as it was; the new quote shows its new value", "TPM_RC_POLICY_FAIL：策略要求 PCR 14 保持原值；新的引证显示了它的新值"), nil
}

func (d *demo) restored() (string, error) {
	d.powerOff()
	if err := d.powerOn(); err != nil {
		return "", err
	}
	if err := d.opens(); err != nil {
		return "", err
	}
	return d.say("the vTPM was opened anew from its sealed state; owner, keys and secret are all there", "vTPM 已从加密状态重新打开；所有者、密钥和秘密都在"), nil
}

func (d *demo) kept() (string, error) {
	d.powerOff()
	instance, err := vtpm.Open(d.config(vtpm.Key{Secret: secret.Random(32)}))
	if err == nil {
		err = instance.PowerOn(swtpm.Peer{}, false)
		instance.Close()
	}
	var refusal *vtpm.Refusal
	if !errors.As(err, &refusal) {
		return "", fmt.Errorf("a wrong key was not refused as it must be: %v", err)
	}
	return refusal.Finding.Code + ": " + refusal.Finding.In(d.lang).Meaning, d.powerOn()
}
