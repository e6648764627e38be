package vtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// EK is an endorsement key that a new TPM has got.
type EK struct {
	Name        string // rsa2048, secp256r1, secp384r1: as swtpm_setup names its files
	Public      crypto.PublicKey
	Handle      tpm2.Handle // where the key is persistent
	Index       tpm2.Handle // NV index of its certificate
	Certificate []byte      // DER, nil without one
}

// platformIndex is the NV index of the platform certificate (TCG PC Client
// Platform TPM Profile, NV index assignments).
const platformIndex tpm2.Handle = 0x01c08000

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
	// Banks are the PCR banks to activate (sha1, sha256, …); nil leaves them.
	Banks []string
}

// Provision powers the TPM on, does all that p asks for, and powers it off. A
// TPM that is on is refused: somebody is using it.
func (i *Instance) Provision(p Provisioning) ([]EK, error) {
	if i.Running() {
		return nil, errors.New("provisioning the TPM: it is in use")
	}
	if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
		return nil, err
	}
	defer i.PowerOff()
	eks, err := i.provision(p)
	if err != nil {
		return nil, fmt.Errorf("provisioning the TPM: %w", err)
	}
	return eks, nil
}

func (i *Instance) provision(p Provisioning) ([]EK, error) {
	if err := i.call(&tpm2.Startup{StartupType: tpm2.SUClear}, nil); err != nil {
		return nil, err
	}
	var eks []EK
	if p.EKs || p.Certify != nil || p.CertifyPlatform != nil {
		for _, t := range ekTemplates {
			ek, err := i.makeEK(t, p)
			if err != nil {
				return nil, fmt.Errorf("making the EK %s: %w", t.name, err)
			}
			eks = append(eks, ek)
		}
	}
	if p.CertifyPlatform != nil {
		der, err := p.CertifyPlatform(eks[0])
		if err == nil {
			err = i.storeCertificate(platformIndex, der, p.Lock)
		}
		if err != nil {
			return nil, fmt.Errorf("making the platform certificate: %w", err)
		}
	}
	if p.SRK != "" {
		t, ok := srkTemplates[p.SRK]
		if !ok {
			return nil, fmt.Errorf("there is no template for a storage root key %s", p.SRK)
		}
		if _, err := i.makePersistent(tpm2.RHOwner, t, srkHandle); err != nil {
			return nil, fmt.Errorf("making the storage root key: %w", err)
		}
	}
	if p.Banks != nil {
		if err := i.allocate(p.Banks); err != nil {
			return nil, fmt.Errorf("activating PCR banks: %w", err)
		}
	}
	return eks, i.call(&tpm2.Shutdown{ShutdownType: tpm2.SUClear}, nil)
}

func (i *Instance) makeEK(t ekTemplate, p Provisioning) (EK, error) {
	public, err := i.makePersistent(tpm2.RHEndorsement, t.public, t.handle)
	if err != nil {
		return EK{}, err
	}
	ek := EK{Name: t.name, Handle: t.handle, Index: t.index}
	if ek.Public, err = publicKey(public); err != nil || p.Certify == nil {
		return ek, err
	}
	if ek.Certificate, err = p.Certify(ek); err != nil {
		return ek, err
	}
	return ek, i.storeCertificate(t.index, ek.Certificate, p.Lock)
}

// makePersistent makes a primary key and keeps it at handle.
func (i *Instance) makePersistent(hierarchy tpm2.Handle, public tpm2.TPMTPublic, handle tpm2.Handle) (tpm2.TPMTPublic, error) {
	var made tpm2.CreatePrimaryResponse
	if err := i.call(&tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: public}, &made); err != nil {
		return made.OutPublic, err
	}
	if err := i.call(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: made.ObjectHandle, PersistentHandle: handle}, nil); err != nil {
		return made.OutPublic, err
	}
	return made.OutPublic, i.call(&tpm2.FlushContext{FlushHandle: made.ObjectHandle}, nil)
}

// certificateAttributes are those of swtpm_setup: the platform writes once,
// everybody reads.
const certificateAttributes = tpm2.NVPlatformCreate | tpm2.NVAuthRead | tpm2.NVOwnerRead | tpm2.NVPPRead |
	tpm2.NVPPWrite | tpm2.NVNoDA | tpm2.NVWriteDefine

// maxNVWrite is what goes in one TPM2_NV_Write (TPM_PT_NV_BUFFER_MAX).
const maxNVWrite = 1024

func (i *Instance) storeCertificate(index tpm2.Handle, der []byte, lock bool) error {
	if len(der) > tpm2.MaxNVIndexSize {
		return fmt.Errorf("a certificate of %d bytes does not fit into an NV index", len(der))
	}
	err := i.call(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHPlatform, PublicInfo: tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.AlgSHA256, Attributes: certificateAttributes, DataSize: uint16(len(der)),
	}}, nil)
	for at := 0; at < len(der) && err == nil; at += maxNVWrite {
		piece := der[at:min(at+maxNVWrite, len(der))]
		err = i.call(&tpm2.NVWrite{AuthHandle: tpm2.RHPlatform, NVIndex: index, Data: piece, Offset: uint16(at)}, nil)
	}
	if err == nil && lock {
		err = i.call(&tpm2.NVWriteLock{AuthHandle: tpm2.RHPlatform, NVIndex: index}, nil)
	}
	return err
}

var bankNames = map[string]tpm2.AlgID{
	"sha1": tpm2.AlgSHA1, "sha256": tpm2.AlgSHA256, "sha384": tpm2.AlgSHA384, "sha512": tpm2.AlgSHA512,
}

// allocate activates the banks that are named, and no other.
func (i *Instance) allocate(names []string) error {
	want := map[tpm2.AlgID]bool{}
	for _, n := range names {
		alg, ok := bankNames[n]
		if !ok {
			return fmt.Errorf("%q is no PCR bank: sha1, sha256, sha384 or sha512", n)
		}
		want[alg] = true
	}
	if len(want) == 0 {
		return errors.New("a TPM needs one PCR bank")
	}
	var have tpm2.GetCapabilityResponse
	if err := i.call(&tpm2.GetCapability{Capability: tpm2.CapPCRs, PropertyCount: 1}, &have); err != nil {
		return err
	}
	var selection []tpm2.TPMSPCRSelection
	for _, bank := range have.CapabilityData.Data.AssignedPCR {
		bits := []byte{0, 0, 0}
		if want[bank.Hash] {
			bits = []byte{0xff, 0xff, 0xff}
		}
		selection = append(selection, tpm2.TPMSPCRSelection{Hash: bank.Hash, PCRSelect: bits})
		delete(want, bank.Hash)
	}
	for alg := range want {
		return fmt.Errorf("this TPM has no PCR bank of algorithm 0x%x", uint16(alg))
	}
	var done tpm2.PCRAllocateResponse
	if err := i.call(&tpm2.PCRAllocate{AuthHandle: tpm2.RHPlatform, PCRAllocation: selection}, &done); err != nil {
		return err
	}
	if done.AllocationSuccess == 0 {
		return errors.New("the TPM refused the allocation")
	}
	return nil
}

// call executes one command with empty passwords. A nil response is checked
// for success only.
func (i *Instance) call(cmd tpm2.Command, response tpm2.Response) error {
	info := tpm2.Info(cmd.CommandCode())
	tag, auths := tpm2.STNoSessions, info.Auths()
	if auths > 0 {
		tag = tpm2.STSessions
	}
	e := tpm2.NewEncoder(nil)
	e.U16(uint16(tag))
	e.U32(0)
	e.U32(uint32(info.Code))
	for _, h := range cmd.AppendHandles(nil) {
		e.U32(uint32(h))
	}
	if auths > 0 {
		e.U32(uint32(9 * auths))
		for range auths { // TPMS_AUTH_COMMAND: TPM_RS_PW, no nonce, attributes 0, no password
			e.U32(uint32(tpm2.RSPW))
			e.U16(0)
			e.U8(0)
			e.U16(0)
		}
	}
	cmd.EncodeParameters(e)
	b := e.Out()
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))

	r := i.Execute(0, b, nil)
	if rc := tpm2.RC(binary.BigEndian.Uint32(r[6:])); rc != tpm2.RCSuccess {
		return fmt.Errorf("TPM2_%s: %w", info.Name, rc)
	}
	if response == nil {
		return nil
	}
	d := tpm2.NewDecoder(r[10:])
	if h := response.HandleField(); h != nil {
		*h = tpm2.Handle(d.U32())
	}
	if auths > 0 {
		d.U32() // parameterSize; what follows the parameters are the answers to the passwords
	}
	response.DecodeParameters(d)
	if err := d.Err(); err != nil {
		return fmt.Errorf("reading the response to TPM2_%s: %w", info.Name, err)
	}
	return nil
}

// publicKey turns a TPM's public area into a key of the standard library.
func publicKey(p tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch p.Type {
	case tpm2.AlgRSA:
		exponent := int(p.Parameters.RSADetail.Exponent)
		if exponent == 0 {
			exponent = 65537 // Part 2, 12.2.3.5: zero is the default
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(p.Unique.RSA), E: exponent}, nil
	case tpm2.AlgECC:
		curve, ok := map[tpm2.ECCCurve]elliptic.Curve{tpm2.ECCNISTP256: elliptic.P256(), tpm2.ECCNISTP384: elliptic.P384()}[p.Parameters.ECCDetail.CurveID]
		if !ok {
			return nil, fmt.Errorf("curve 0x%x is none of ours", uint16(p.Parameters.ECCDetail.CurveID))
		}
		size := (curve.Params().BitSize + 7) / 8
		point := make([]byte, 1+2*size)
		point[0] = 4
		new(big.Int).SetBytes(p.Unique.ECC.X).FillBytes(point[1 : 1+size])
		new(big.Int).SetBytes(p.Unique.ECC.Y).FillBytes(point[1+size:])
		return ecdsa.ParseUncompressedPublicKey(curve, point)
	}
	return nil, fmt.Errorf("type 0x%x is no endorsement key", uint16(p.Type))
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}
