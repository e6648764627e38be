package client

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// The methods of this file fulfil a policy in a policy or trial session, each
// by the command of its name. After a command was authorized the policy begins anew.

// PolicyDigest is the session's digest so far.
func (s *Session) PolicyDigest() ([]byte, error) {
	var rsp tpm2.PolicyGetDigestResponse
	err := s.c.Execute(&tpm2.PolicyGetDigest{PolicySession: s.handle}, &rsp)
	return rsp.PolicyDigest, err
}

// PolicyRestart forgets what was fulfilled so far.
func (s *Session) PolicyRestart() error {
	return s.c.Execute(&tpm2.PolicyRestart{SessionHandle: s.handle}, nil)
}

// PolicyPCR checks PCRs against a digest; nil takes them as they are now.
func (s *Session) PolicyPCR(sel []tpm2.TPMSPCRSelection, pcrDigest []byte) error {
	return s.c.Execute(&tpm2.PolicyPCR{PolicySession: s.handle, PCRDigest: pcrDigest, PCRs: sel}, nil)
}

// PolicySecret authorizes the session by that of another entity.
func (s *Session) PolicySecret(by Auth, ref []byte, extra ...Auth) error {
	cmd := tpm2.PolicySecret{AuthHandle: entityOf(by).Handle, PolicySession: s.handle, PolicyRef: ref}
	return s.c.Execute(&cmd, nil, with(extra, by)...)
}

// PolicySigned authorizes the session by a signature; see [PolicySignedDigest].
// With a cmd.NonceTPM of the session it counts for this session alone.
func (s *Session) PolicySigned(key *Key, cmd tpm2.PolicySigned) (*tpm2.PolicySignedResponse, error) {
	cmd.AuthObject, cmd.PolicySession = key.Handle, s.handle
	var rsp tpm2.PolicySignedResponse
	err := s.c.Execute(&cmd, &rsp)
	return &rsp, err
}

// PolicySignedDigest is what has to be signed for a PolicySigned with those
// parameters, under the signature's hash algorithm (Part 3, 23.3.1).
func PolicySignedDigest(alg tpm2.AlgID, cmd *tpm2.PolicySigned) ([]byte, error) {
	if err := knownHash(alg); err != nil {
		return nil, fmt.Errorf("digesting for PolicySigned: %w", err)
	}
	return crypt.Digest(alg, cmd.NonceTPM, binary.BigEndian.AppendUint32(nil, uint32(cmd.Expiration)), cmd.CpHashA, cmd.PolicyRef), nil
}

// PolicyAuthorize replaces the session's policy by "whatever key signs", if key
// has signed the policy that the session fulfils; see [SignPolicy].
func (s *Session) PolicyAuthorize(key *tpm2.TPMTPublic, ref []byte, sig *tpm2.TPMTSignature) error {
	approved, err := s.PolicyDigest()
	if err != nil {
		return err
	}
	// The Owner's proof, since the NULL hierarchy's tickets are void here (Part 3, 23.16.1).
	if err := knownHash(key.NameAlg); err != nil {
		return err
	}
	k, err := s.c.LoadPublic(key, tpm2.RHOwner)
	if err != nil {
		return err
	}
	var ver tpm2.VerifySignatureResponse
	err = s.c.Execute(&tpm2.VerifySignature{KeyHandle: k.Handle, Digest: approvedDigest(k.Public.NameAlg, approved, ref), Signature: *sig}, &ver)
	if ferr := s.c.Flush(k.Handle); err == nil {
		err = ferr
	}
	if err != nil {
		return err
	}
	return s.c.Execute(&tpm2.PolicyAuthorize{
		PolicySession: s.handle, ApprovedPolicy: approved, PolicyRef: ref, KeySign: k.Name, CheckTicket: ver.Validation,
	}, nil)
}

// approvedDigest is the aHash of Part 3, 23.16.1; its algorithm is the key's nameAlg.
func approvedDigest(alg tpm2.AlgID, approved, ref []byte) []byte {
	return crypt.Digest(alg, approved, ref)
}

// SignPolicy approves a policy, for [Session.PolicyAuthorize]: key is the
// signer's public area (see [PublicArea]).
func SignPolicy(signer crypto.Signer, key *tpm2.TPMTPublic, approved, ref []byte) (*tpm2.TPMTSignature, error) {
	if err := knownHash(key.NameAlg); err != nil {
		return nil, fmt.Errorf("signing a policy: %w", err)
	}
	return SignDigest(signer, key.NameAlg, approvedDigest(key.NameAlg, approved, ref))
}

// PolicyOR replaces the session's policy, which is one of those, by their union.
func (s *Session) PolicyOR(digests ...[]byte) error {
	return s.c.Execute(&tpm2.PolicyOR{PolicySession: s.handle, PHashList: digests}, nil)
}

// PolicyAuthValue makes the session prove the object's authValue by HMAC.
func (s *Session) PolicyAuthValue() error {
	return s.c.Execute(&tpm2.PolicyAuthValue{PolicySession: s.handle}, nil)
}

// PolicyPassword makes the session carry the object's authValue as it is.
func (s *Session) PolicyPassword() error {
	return s.c.Execute(&tpm2.PolicyPassword{PolicySession: s.handle}, nil)
}

// PolicyCommandCode limits the session to one command.
func (s *Session) PolicyCommandCode(cc tpm2.CC) error {
	return s.c.Execute(&tpm2.PolicyCommandCode{PolicySession: s.handle, Code: cc}, nil)
}

// PolicyLocality limits the session to localities.
func (s *Session) PolicyLocality(l tpm2.Locality) error {
	return s.c.Execute(&tpm2.PolicyLocality{PolicySession: s.handle, Locality: l}, nil)
}

// PolicyNV compares the contents of an NV index, which by may read.
func (s *Session) PolicyNV(by Auth, index *NVIndex, operandB []byte, offset uint16, op tpm2.EO) error {
	return s.c.Execute(&tpm2.PolicyNV{
		AuthHandle: entityOf(by).Handle, NVIndex: index.Handle, PolicySession: s.handle,
		OperandB: operandB, Offset: offset, Operation: op,
	}, nil, by, About(index.Entity))
}

// PolicyCounterTimer compares a part of TPMS_TIME_INFO: clock is at offset 8,
// resetCount at 16, restartCount at 20.
func (s *Session) PolicyCounterTimer(operandB []byte, offset uint16, op tpm2.EO) error {
	return s.c.Execute(&tpm2.PolicyCounterTimer{PolicySession: s.handle, OperandB: operandB, Offset: offset, Operation: op}, nil)
}

// PolicyNVWritten limits the session to NV indices that were written, or not yet.
func (s *Session) PolicyNVWritten(written bool) error {
	return s.c.Execute(&tpm2.PolicyNvWritten{PolicySession: s.handle, WrittenSet: tpm2.Bool(written)}, nil)
}

// PolicyDuplicationSelect limits the session to the duplication of an object to
// a new parent, both by Name. include says whether the policy names the object
// too, or only the parent.
func (s *Session) PolicyDuplicationSelect(object, newParent []byte, include bool) error {
	cmd := tpm2.PolicyDuplicationSelect{PolicySession: s.handle, ObjectName: object, NewParentName: newParent, IncludeObject: tpm2.Bool(include)}
	return s.c.Execute(&cmd, nil)
}

// EKSession is a policy session that has fulfilled the policy of an EK made from
// [EKTemplate]. by authorizes for the endorsement hierarchy.
func (c *Client) EKSession(ek *Key, by Auth) (*Session, error) {
	s, err := c.StartSession(SessionConfig{Type: tpm2.SEPolicy, Hash: ek.Public.NameAlg})
	if err != nil {
		return nil, err
	}
	if err := s.fulfilEK(ek, by); err != nil {
		s.Close() // the first error is the one to report
		return nil, err
	}
	return s, nil
}

func (s *Session) fulfilEK(ek *Key, by Auth) error {
	var or [][]byte
	switch p := ek.Public.AuthPolicy; {
	case bytes.Equal(p, policyA256), bytes.Equal(p, policyA384):
	case bytes.Equal(p, policyB256):
		or = [][]byte{policyA256, policyC256}
	case bytes.Equal(p, policyB384):
		or = [][]byte{policyA384, policyC384}
	default:
		return fmt.Errorf("using the EK %v: its policy is none of the TCG EK Credential Profile's", ek.Handle)
	}
	if err := s.PolicySecret(by, nil); err != nil {
		return err
	}
	if or != nil {
		return s.PolicyOR(or...)
	}
	return nil
}
