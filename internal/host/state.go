package host

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Names in the directory of a vTPM, beside those of package vtpm. They are part
// of docs/formats/lease.md.
const (
	fileRecord = "vtpm.json"
	// fileBirth is the key of a state that no lease has sealed yet: from the moment
	// at which the vTPM is made until its first lease is confirmed.
	fileBirth = "birth.key"
)

// State is what this host has of one vTPM: its directory, and of which
// generation the state in it is. No key to that state is in it.
type State struct {
	dir string
	log *slog.Logger

	mu sync.Mutex
	record
}

// At is the generation of the state; 0: no lease has sealed it yet.
func (s *State) At() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Generation
}

// record is vtpm.json.
type record struct {
	EKPublic   []byte `json:"ek_public"`  // SubjectPublicKeyInfo
	Generation int64  `json:"generation"` // of the state; 0: no lease has sealed it yet
}

// OpenState reads what a directory has; the directory is made if need be.
func OpenState(dir string, log *slog.Logger) (*State, error) {
	s := &State{dir: dir, log: log}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s.record)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, fileRecord), err)
	}
	return s, nil
}

func (s *State) save() error {
	b, err := json.Marshal(s.record)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.dir, fileRecord), append(b, '\n'), 0o600)
}

// Manufacture makes the vTPM, unless it is made already, and returns its P-256
// endorsement key. Its state lies sealed under a key beside it until the first
// lease. banks are the PCR banks to activate, by name; none: all that there are.
func (s *State) Manufacture(banks ...string) (ekPublic []byte, err error) {
	if len(s.EKPublic) > 0 {
		return s.EKPublic, nil
	}
	key := secret.Random(32)
	defer key.Erase()
	// What an attempt before this one left is of a vTPM that nobody ever heard of.
	if err := vtpm.Remove(s.dir); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(s.dir, fileBirth), key.Reveal(), 0o600); err != nil {
		return nil, err
	}
	instance, err := s.instance(key)
	if err != nil {
		return nil, err
	}
	eks, err := instance.Provision(vtpm.Provisioning{EKs: true, Banks: banks})
	if err := errors.Join(err, instance.Close()); err != nil {
		return nil, err
	}
	for _, ek := range eks {
		if ek.Name == "secp256r1" {
			if s.EKPublic, err = x509.MarshalPKIXPublicKey(ek.Public); err == nil {
				err = s.save()
			}
			return s.EKPublic, err
		}
	}
	return nil, errors.New("the vTPM has no P-256 endorsement key")
}

// Unborn says whether the vTPM is made and waits for its first lease.
func (s *State) Unborn() bool {
	_, err := os.Stat(filepath.Join(s.dir, fileBirth))
	return err == nil && len(s.EKPublic) > 0 && s.Generation == 0
}

// Endorse puts the endorsement certificate where the guest finds it, before the
// first lease.
func (s *State) Endorse(certificate string) error {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil || block.Type != "CERTIFICATE" {
		return errors.New("the service sent no endorsement certificate")
	}
	key, err := s.birthKey()
	if err != nil {
		return err
	}
	defer key.Erase()
	instance, err := s.instance(key)
	if wrongKey(err) {
		return nil // a lease has sealed it before a crash, and the certificate was in it by then
	}
	if err != nil {
		return err
	}
	return errors.Join(instance.Use(func(c *client.Client) error {
		return c.StoreCertificate(client.Hierarchy(tpm2.RHPlatform, nil), client.EKP256.CertificateIndex(), block.Bytes)
	}), instance.Close())
}

func (s *State) birthKey() (secret.Bytes, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, fileBirth))
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(b), nil
}

// Take makes the state one of the lease's generation: opened with the key of
// its own, sealed with the lease's, and then recorded. After a crash between the
// last two the state is of the lease's generation already. One that was written
// less often than the lease says is refused.
func (s *State) Take(l hosting.Lease) (*vtpm.Instance, error) {
	seal := secret.Copy(l.SealKey)
	keys := []secret.Bytes{seal}
	if len(l.OpenKey) > 0 {
		keys = []secret.Bytes{secret.Copy(l.OpenKey), seal}
	} else if key, err := s.birthKey(); err == nil {
		keys = []secret.Bytes{key, seal}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var instance *vtpm.Instance
	var refused error
	for _, key := range keys {
		var err error
		if instance, err = s.open(key, uint64(l.Writes)); err == nil {
			break
		}
		if !wrongKey(err) {
			return nil, err
		}
		if refused == nil {
			refused = err
		}
	}
	if instance == nil {
		return nil, refused
	}
	err := instance.Rekey(vtpm.Key{Secret: seal})
	if err == nil {
		s.mu.Lock()
		s.Generation = l.Generation
		err = s.save()
		s.mu.Unlock()
	}
	if err != nil {
		return nil, errors.Join(err, instance.Close())
	}
	return instance, nil
}

// Confirmed drops the key of birth: the service knows that the state is sealed
// under its own.
func (s *State) Confirmed() error {
	if err := os.Remove(filepath.Join(s.dir, fileBirth)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(s.dir)
}

func wrongKey(err error) bool {
	var r *vtpm.Refusal
	return errors.As(err, &r) && r.Finding.Code == "STATE_WRONG_KEY"
}

func (s *State) instance(key secret.Bytes) (*vtpm.Instance, error) { return s.open(key, 0) }

func (s *State) open(key secret.Bytes, writes uint64) (*vtpm.Instance, error) {
	return vtpm.Open(vtpm.Config{Dir: s.dir, Key: vtpm.Key{Secret: key}, MinGeneration: writes, Log: s.log})
}
