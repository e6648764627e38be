package client

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// PlatformCertificate is the NV index of the platform certificate (TCG PC Client
// Platform TPM Profile, registry of reserved handles).
const PlatformCertificate tpm2.Handle = 0x01c08000

// ReadCertificate reads a certificate that the manufacturer has put into an NV
// index; see [EK.CertificateIndex]. Whether to trust it is for the caller to find out.
func (c *Client) ReadCertificate(index tpm2.Handle) (*x509.Certificate, error) {
	cert, err := c.readCertificate(index)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate at %v: %w", index, err)
	}
	return cert, nil
}

func (c *Client) readCertificate(index tpm2.Handle) (*x509.Certificate, error) {
	i, err := c.NVIndex(index, nil)
	if err != nil {
		if errors.Is(err, tpm2.RCHandle) {
			return nil, fmt.Errorf("%w: this TPM has none of that kind; tpm2_getcap handles-nv-index shows what there is", err)
		}
		return nil, err
	}
	b, err := c.NVRead(i, i)
	if err != nil {
		return nil, err
	}
	var der asn1.RawValue
	if _, err := asn1.Unmarshal(b, &der); err != nil { // some indices are larger than their certificates
		return nil, fmt.Errorf("it is none: %v", err)
	}
	return x509.ParseCertificate(der.FullBytes)
}

// StoreCertificate puts a certificate into an NV index as manufacturers do: the
// Platform alone can write or remove it, everyone can read it. It replaces one
// that is there.
func (c *Client) StoreCertificate(platform Auth, index tpm2.Handle, der []byte) error {
	if err := c.storeCertificate(platform, index, der); err != nil {
		return fmt.Errorf("storing a certificate at %v: %w", index, err)
	}
	return nil
}

func (c *Client) storeCertificate(platform Auth, index tpm2.Handle, der []byte) error {
	if len(der) == 0 || len(der) > tpm2.MaxNVIndexSize {
		return fmt.Errorf("it has %d octets, an index at most %d", len(der), tpm2.MaxNVIndexSize)
	}
	if old, err := c.NVIndex(index, nil); err == nil {
		if err := c.NVUndefine(platform, old); err != nil {
			return err
		}
	} else if !errors.Is(err, tpm2.RCHandle) {
		return err
	}
	i, err := c.NVDefine(platform, tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.AlgSHA256, DataSize: uint16(len(der)),
		Attributes: tpm2.NVPPWrite | tpm2.NVWriteDefine | tpm2.NVPPRead | tpm2.NVOwnerRead | tpm2.NVAuthRead | tpm2.NVNoDA | tpm2.NVPlatformCreate,
	}, nil)
	if err != nil {
		return err
	}
	return c.NVWrite(platform, i, der, 0)
}
