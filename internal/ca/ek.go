package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Endorsement key and platform certificates, as the TCG EK Credential Profile
// for TPM Family 2.0 wants them and as swtpm_localca
// makes them. All functions here go from values to values.

// Object identifiers of TCG (2.23.133) that these certificates carry.
var (
	oidTPMManufacturer      = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel             = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion           = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidTPMSpecification     = asn1.ObjectIdentifier{2, 23, 133, 2, 16}
	oidPlatformManufacturer = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 1}
	oidPlatformModel        = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 4}
	oidPlatformVersion      = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 5}
	oidEKCertificate        = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidPlatformCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 2}

	oidSubjectAltName             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSubjectDirectoryAttributes = asn1.ObjectIdentifier{2, 5, 29, 9}
)

// noExpiry is the date of RFC 5280, Section 4.1.2.5, for a certificate without
// a well-defined end: an EK certificate lives as long as its TPM.
var noExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// TPM is a TPM as it names itself in its properties.
type TPM struct {
	Manufacturer string // "id:" and eight hexadecimal digits
	Model        string
	Version      string // "id:" and eight hexadecimal digits
	Family       string // of the specification: "2.0"
	Level        int
	Revision     int
}

// Platform is the machine that a TPM belongs to.
type Platform struct{ Manufacturer, Model, Version string }

// EK is what an EK or platform certificate is about.
type EK struct {
	// Public is the endorsement key: *rsa.PublicKey or *ecdsa.PublicKey.
	Public crypto.PublicKey
	// CommonName is the subject, usually the VM's name and id. It may be
	// empty: then the alternative name stands for it, and is critical.
	CommonName string
}

// Issuer signs certificates.
type Issuer struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// IssueEK makes an endorsement key certificate.
func (i Issuer) IssueEK(ek EK, tpm TPM, now time.Time) (der []byte, err error) {
	extensions, err := EKExtensions(tpm, ek.CommonName == "")
	if err != nil {
		return nil, err
	}
	return i.issue(ek, now, oidEKCertificate, extensions)
}

// IssuePlatform makes a platform certificate over the same key, in swtpm's
// form: a public-key certificate, not TCG's attribute certificate.
func (i Issuer) IssuePlatform(ek EK, p Platform, now time.Time) (der []byte, err error) {
	extensions, err := PlatformExtensions(p, ek.CommonName == "")
	if err != nil {
		return nil, err
	}
	return i.issue(ek, now, oidPlatformCertificate, extensions)
}

// EKExtensions are the alternative name and the specification that an EK
// certificate carries. noSubject says that its subject is empty.
func EKExtensions(tpm TPM, noSubject bool) ([]pkix.Extension, error) {
	name, err := directoryName([]attribute{{oidTPMManufacturer, tpm.Manufacturer}, {oidTPMModel, tpm.Model}, {oidTPMVersion, tpm.Version}})
	if err != nil {
		return nil, err
	}
	specification, err := specificationAttribute(tpm)
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{altName(name, noSubject), {Id: oidSubjectDirectoryAttributes, Value: specification}}, nil
}

// PlatformExtensions are the same for a platform certificate.
func PlatformExtensions(p Platform, noSubject bool) ([]pkix.Extension, error) {
	name, err := directoryName([]attribute{{oidPlatformManufacturer, p.Manufacturer}, {oidPlatformModel, p.Model}, {oidPlatformVersion, p.Version}})
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{altName(name, noSubject)}, nil
}

// altName is critical when, and only when, the subject is empty (RFC 5280,
// Section 4.2.1.6).
func altName(name []byte, noSubject bool) pkix.Extension {
	return pkix.Extension{Id: oidSubjectAltName, Critical: noSubject, Value: name}
}

// The profiles of the vTPM CA for the same certificates in two steps. A request
// brings the extensions that EKExtensions or PlatformExtensions made.
var (
	EKProfile = Profile{
		Name: "vtpm-ek", Purpose: VTPMEK,
		Default: ekIntermediateLifetime, Max: rootLifetime,
		KeyUsage: ekUsage, OtherExtKeyUsage: []asn1.ObjectIdentifier{oidEKCertificate},
		Keys:       RSAOrECC,
		Extensions: []asn1.ObjectIdentifier{oidSubjectAltName, oidSubjectDirectoryAttributes},
	}
	PlatformProfile = Profile{
		Name: "vtpm-platform", Purpose: VTPMEK,
		Default: ekIntermediateLifetime, Max: rootLifetime,
		KeyUsage: ekUsage, OtherExtKeyUsage: []asn1.ObjectIdentifier{oidPlatformCertificate},
		Keys:       RSAOrECC,
		Extensions: []asn1.ObjectIdentifier{oidSubjectAltName},
	}
)

// ekUsage is keyEncipherment for RSA and keyAgreement for ECC, and nothing
// else: an EK signs nothing (EK Credential Profile).
func ekUsage(public crypto.PublicKey) x509.KeyUsage {
	if _, ok := public.(*rsa.PublicKey); ok {
		return x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageKeyAgreement
}

type attribute struct {
	id    asn1.ObjectIdentifier
	value string
}

func (i Issuer) issue(ek EK, now time.Time, purpose asn1.ObjectIdentifier, extensions []pkix.Extension) ([]byte, error) {
	if err := RSAOrECC(ek.Public); err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: ek.CommonName},
		NotBefore:             now.UTC().Truncate(time.Second),
		NotAfter:              noExpiry,
		KeyUsage:              ekUsage(ek.Public),
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{purpose},
		BasicConstraintsValid: true, // CA:FALSE, critical
		ExtraExtensions:       extensions,
	}, i.Certificate, ek.Public, i.Key)
}

// directoryName encodes a GeneralNames with one directoryName, one attribute
// in each RDN, as UTF8String (EK Credential Profile, 3.2.9).
func directoryName(attributes []attribute) ([]byte, error) {
	type value struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	type rdn []value
	var rdns []asn1.RawValue
	for _, a := range attributes {
		if a.value == "" {
			return nil, errors.New("naming the TPM or platform: a part of the name is empty")
		}
		set, err := asn1.MarshalWithParams(rdn{{a.id, a.value}}, "set")
		if err != nil {
			return nil, err
		}
		rdns = append(rdns, asn1.RawValue{FullBytes: set})
	}
	name, err := asn1.Marshal(rdns)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
}

// specificationAttribute encodes the TPM specification as subject directory
// attribute (EK Credential Profile).
func specificationAttribute(tpm TPM) ([]byte, error) {
	type specification struct {
		Family   string `asn1:"utf8"`
		Level    int
		Revision int
	}
	type directoryAttribute struct {
		ID     asn1.ObjectIdentifier
		Values []specification `asn1:"set"`
	}
	return asn1.Marshal([]directoryAttribute{{oidTPMSpecification, []specification{{tpm.Family, tpm.Level, tpm.Revision}}}})
}

// NewLocalCA makes a CA for one machine: a P-384 key and a certificate that
// signs itself. It is for vTPMs outside the control plane, where swtpm has its
// swtpm_localca; the fleet's EK certificates come from the vTPM CA.
func NewLocalCA(name string, now time.Time) (Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return Issuer{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.UTC().Truncate(time.Second),
		NotAfter:              noExpiry, // it must outlive what it signs
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Issuer{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Issuer{}, err
	}
	return Issuer{certificate, key}, nil
}

// PEM returns the certificate and the key (PKCS #8) as files.
func (i Issuer) PEM() (certificate, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseIssuer reads what [Issuer.PEM] wrote, and checks that both belong together.
func ParseIssuer(certificate, key []byte) (Issuer, error) {
	c, _ := pem.Decode(certificate)
	k, _ := pem.Decode(key)
	if c == nil || c.Type != "CERTIFICATE" || k == nil || k.Type != "PRIVATE KEY" {
		return Issuer{}, errors.New("reading a CA: there is no certificate or no private key")
	}
	cert, err := x509.ParseCertificate(c.Bytes)
	if err != nil {
		return Issuer{}, fmt.Errorf("reading a CA certificate: %w", err)
	}
	private, err := x509.ParsePKCS8PrivateKey(k.Bytes)
	clear(k.Bytes)
	if err != nil {
		return Issuer{}, fmt.Errorf("reading a CA key: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return Issuer{}, errors.New("reading a CA key: it cannot sign")
	}
	if public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
		return Issuer{}, errors.New("reading a CA: the key does not belong to the certificate")
	}
	return Issuer{cert, signer}, nil
}
