package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// A control plane must not depend on a VM that it admits: after a power cut
// neither starts without the other, and whoever has the VM's host has the
// control plane. It is noticed by the endorsement keys of the TPM of the machine
// that the service runs on: a VM's are on record. Not noticed: a service inside
// a VM that hides its vTPM from it, and a state directory on a disk of such a VM
// that is mounted from elsewhere; docs/findings/service.md says so.

// defaultOwnTPM is where Linux has the machine's own TPM.
const defaultOwnTPM = "/dev/tpmrm0"

// ownTPM is the TPM of this machine, which is asked for one kind of endorsement
// key at a time: RSA keys take a discrete TPM seconds.
type ownTPM struct {
	path string

	mu   sync.Mutex
	keys map[string][]byte // SubjectPublicKeyInfo by kind; nil: it has none of that kind
}

// openOwnTPM looks for the machine's TPM. There need not be one, nor must the
// service be allowed to use it, unless it was named; nil: nothing is noticed.
func openOwnTPM(path string) (*ownTPM, error) {
	if path == "none" {
		return nil, nil
	}
	if path == "" {
		f, err := os.OpenFile(defaultOwnTPM, os.O_RDWR, 0)
		if err != nil {
			return nil, nil
		}
		f.Close()
		path = defaultOwnTPM
	}
	o := &ownTPM{path: path, keys: map[string][]byte{}}
	_, err := o.key("P-256")
	if err != nil {
		return nil, withHint(fmt.Errorf("asking this machine's TPM who it is: %w", err), "let the service open %s, or say --own-tpm none: then it does not notice when it runs inside a VM that it admits", path)
	}
	return o, nil
}

func (o *ownTPM) key(kind string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k, ok := o.keys[kind]; ok {
		return k, nil
	}
	tpm, err := client.Open(o.path)
	if err != nil {
		return nil, err
	}
	defer tpm.Close()
	ek, err := tpm.CreatePrimary(client.Hierarchy(tpm2.RHEndorsement, nil), client.EKTemplate(admission.Templates[kind]))
	var no *client.CommandError
	if errors.As(err, &no) && kind != "P-256" {
		o.keys[kind] = nil // it cannot make such a key
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer tpm.Flush(ek.Handle)
	public, err := client.PublicKey(&ek.Public)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err == nil {
		o.keys[kind] = der
	}
	return der, err
}

// Has says whether spki is an endorsement key of this machine's TPM.
func (o *ownTPM) Has(spki []byte) (bool, error) {
	_, kind, err := admission.EndorsementArea(spki)
	if err != nil {
		return false, nil // no kind of key that is challenged
	}
	key, err := o.key(kind)
	return err == nil && len(key) > 0 && bytes.Equal(key, spki), err
}

// refuseOwnVM refuses to start inside a VM that the service admits.
func (s *service) refuseOwnVM(ctx context.Context, own *ownTPM) error {
	for kind := range admission.Templates {
		if kind == "RSA-2048" {
			some, err := s.store.HasEKOfLength(ctx, rsa2048SPKI)
			if err != nil {
				return err
			}
			if !some {
				continue
			}
		}
		key, err := own.key(kind)
		if err != nil || key == nil {
			if err != nil {
				return err
			}
			continue
		}
		vm, err := s.store.VMByEK(ctx, key)
		if errors.Is(err, enroll.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if vm.State != enroll.StateRevoked {
			return withHint(enroll.SelfDependency(vm.Name), "run it on another machine: vouchsafe backup here, vouchsafe restore there")
		}
	}
	return nil
}

// rsa2048SPKI is the length of a SubjectPublicKeyInfo with an RSA key of 2048
// bits and the exponent 65537.
const rsa2048SPKI = 294
