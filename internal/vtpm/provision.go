package vtpm

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// EK is an endorsement key that a new TPM has got.
type EK struct {
	Name        string // rsa2048, secp256r1, secp384r1: as swtpm_setup names its files
	Public      crypto.PublicKey
	Handle      tpm2.Handle // where the key is persistent
	Index       tpm2.Handle // NV index of its certificate
	Certificate []byte      // DER, nil without one
}

// endorsementKeys are the EKs that every TPM here gets, at swtpm_setup's
// handles. The templates are the default ones, so no template or nonce index
// is written beside the certificates.
var endorsementKeys = []struct {
	name   string
	ek     client.EK
	handle tpm2.Handle
}{
	{"rsa2048", client.EKRSA2048, 0x81010001},
	{"secp256r1", client.EKP256, 0x8101000a},
	{"secp384r1", client.EKHighP384, 0x81010016},
}

// Provisioning is what a manufacturer does to a TPM before it is sold.
type Provisioning struct {
	// EKs makes the endorsement keys persistent.
	EKs bool
	// Certify makes an EK's certificate; nil for none. It implies EKs.
	Certify func(EK) (der []byte, err error)
	// CertifyPlatform makes the platform certificate, over the RSA EK; nil for none.
	CertifyPlatform func(EK) (der []byte, err error)
	// Lock write-locks the certificates for ever.
	Lock bool
	// SRK makes a storage root key persistent: "rsa2048", "secp384r1" or "".
	SRK string
	// AlgorithmSet, when not nil, is the TPM's from now on: 0 for all, or ClassicalSet.
	AlgorithmSet *uint32
	// Banks are the PCR banks to activate (sha1, sha256, …); nil leaves them.
	Banks []string
}

// Provision powers the TPM on, does all that p asks for, and powers it off. A
// TPM that is on is refused: somebody is using it.
func (i *Instance) Provision(p Provisioning) (eks []EK, err error) {
	err = i.Use(func(c *client.Client) error {
		eks, err = provision(c, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("provisioning the TPM: %w", err)
	}
	return eks, nil
}

// Use powers the TPM on, starts it, has do work with it, shuts it down and
// powers it off. A TPM that is on is refused: somebody is using it.
func (i *Instance) Use(do func(*client.Client) error) error {
	if i.Running() {
		return errors.New("it is in use")
	}
	if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
		return err
	}
	defer i.PowerOff()
	c := client.New(client.Direct(func(command []byte) []byte { return i.Execute(0, command, nil) }))
	if err := c.Startup(tpm2.SUClear); err != nil {
		return err
	}
	if err := do(c); err != nil {
		return err
	}
	return c.Execute(&tpm2.Shutdown{ShutdownType: tpm2.SUClear}, nil)
}

// The hierarchies of a new TPM have empty passwords.
func owner() client.Entity       { return client.Hierarchy(tpm2.RHOwner, nil) }
func platform() client.Entity    { return client.Hierarchy(tpm2.RHPlatform, nil) }
func endorsement() client.Entity { return client.Hierarchy(tpm2.RHEndorsement, nil) }

func provision(c *client.Client, p Provisioning) ([]EK, error) {
	var eks []EK
	if p.EKs || p.Certify != nil || p.CertifyPlatform != nil {
		for _, k := range endorsementKeys {
			ek := EK{Name: k.name, Handle: k.handle, Index: k.ek.CertificateIndex()}
			if err := makeEK(c, &ek, client.EKTemplate(k.ek), p); err != nil {
				return nil, fmt.Errorf("making the EK %s: %w", k.name, err)
			}
			eks = append(eks, ek)
		}
	}
	if p.CertifyPlatform != nil {
		der, err := p.CertifyPlatform(eks[0])
		if err == nil {
			err = keepCertificate(c, client.PlatformCertificate, der, p.Lock)
		}
		if err != nil {
			return nil, fmt.Errorf("making the platform certificate: %w", err)
		}
	}
	if err := makeSRK(c, p.SRK); err != nil {
		return nil, fmt.Errorf("making the storage root key: %w", err)
	}
	if p.AlgorithmSet != nil {
		if err := c.Execute(&tpm2.SetAlgorithmSet{AuthHandle: tpm2.RHPlatform, AlgorithmSet: *p.AlgorithmSet}, nil, platform()); err != nil {
			return nil, fmt.Errorf("choosing the algorithms: %w", err)
		}
	}
	if p.Banks != nil {
		if err := activate(c, p.Banks); err != nil {
			return nil, fmt.Errorf("activating PCR banks: %w", err)
		}
	}
	return eks, nil
}

func makeEK(c *client.Client, ek *EK, template tpm2.TPMTPublic, p Provisioning) error {
	public, err := makePersistent(c, endorsement(), template, ek.Handle)
	if err != nil {
		return err
	}
	if ek.Public, err = client.PublicKey(public); err != nil || p.Certify == nil {
		return err
	}
	if ek.Certificate, err = p.Certify(*ek); err != nil {
		return err
	}
	return keepCertificate(c, ek.Index, ek.Certificate, p.Lock)
}

func makeSRK(c *client.Client, name string) error {
	kinds := map[string]client.KeyKind{"rsa2048": client.RSA2048, "secp256r1": client.P256, "secp384r1": client.P384}
	if name == "" {
		return nil
	}
	kind, ok := kinds[name]
	if !ok {
		return fmt.Errorf("there is no template for %s", name)
	}
	_, err := makePersistent(c, owner(), client.SRKTemplate(kind), client.SRKHandle)
	return err
}

// makePersistent makes a primary key, keeps it at handle, and returns its public area.
func makePersistent(c *client.Client, hierarchy client.Entity, template tpm2.TPMTPublic, handle tpm2.Handle) (*tpm2.TPMTPublic, error) {
	k, err := c.CreatePrimary(hierarchy, template)
	if err != nil {
		return nil, err
	}
	defer c.Flush(k.Handle)
	if _, err := c.Persist(owner(), k, handle); err != nil {
		return nil, err
	}
	return &k.Public, nil
}

// keepCertificate puts a certificate where the manufacturer's belong.
func keepCertificate(c *client.Client, index tpm2.Handle, der []byte, lock bool) error {
	if err := c.StoreCertificate(platform(), index, der); err != nil || !lock {
		return err
	}
	i, err := c.NVIndex(index, nil)
	if err != nil {
		return err
	}
	return c.NVWriteLock(platform(), i)
}

var bankNames = map[string]tpm2.AlgID{
	"sha1": tpm2.AlgSHA1, "sha256": tpm2.AlgSHA256, "sha384": tpm2.AlgSHA384, "sha512": tpm2.AlgSHA512,
}

// CheckBanks says whether Provision will know the names of PCR banks.
func CheckBanks(names []string) error {
	for _, n := range names {
		if _, ok := bankNames[n]; !ok {
			return fmt.Errorf("%q is no PCR bank: sha1, sha256, sha384 or sha512", n)
		}
	}
	if len(names) == 0 {
		return errors.New("a TPM needs one PCR bank")
	}
	return nil
}

// activate activates the banks that are named, and no other.
func activate(c *client.Client, names []string) error {
	if err := CheckBanks(names); err != nil {
		return err
	}
	var banks []tpm2.AlgID
	for _, n := range names {
		banks = append(banks, bankNames[n])
	}
	ok, err := c.AllocateBanks(platform(), banks...)
	if err == nil && !ok {
		err = errors.New("the TPM refused the allocation")
	}
	return err
}
