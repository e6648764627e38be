package main

import (
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// TestSelfDependency: a vTPM plays the TPM of the machine that a service runs
// on. The service neither takes its VM in, nor starts when it is in already.
func TestSelfDependency(t *testing.T) {
	d := admittedDemo(t)
	socket := "unix:" + filepath.Join(d.dir, "vtpm.sock")
	eks := map[string][]byte{}
	for kind, ek := range map[string]client.EK{"RSA-2048": client.EKRSA2048, "P-256": client.EKP256, "P-384": client.EKHighP384} {
		k, err := d.tpm.CreatePrimary(client.Hierarchy(tpm2.RHEndorsement, nil), client.EKTemplate(ek))
		must(t, err)
		public, err := client.PublicKey(&k.Public)
		must(t, err)
		eks[kind], err = x509.MarshalPKIXPublicKey(public)
		must(t, err)
		must(t, d.tpm.Flush(k.Handle))
	}
	d.adm = nil
	must(t, d.tpm.Close()) // the socket serves one at a time

	for kind, ek := range eks {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			newState(t, dir)
			open := func(own string) (*service, error) {
				return openService(t.Context(), dir, serviceOptions{ownTPM: own})
			}
			born := func(s *service) error {
				host := enroll.Host{Tenant: defaultTenant, Name: "h1", AcceptedUnattested: true, Created: time.Now()}
				rand.Read(host.ID[:])
				must(t, s.store.SaveHost(t.Context(), host))
				_, err := s.enroll.Born(t.Context(), enroll.Birth{Tenant: defaultTenant, Name: "inside", Host: "h1", EKPublic: ek, Actor: "test"})
				return err
			}
			s, err := open(socket)
			must(t, err)
			if err := born(s); refused(err, "SELF_DEPENDENCY") != nil {
				t.Errorf("taken in: %v", err)
			}
			must(t, s.close())
			// It is in, because nobody looked; and then somebody does.
			s, err = open("none")
			must(t, err)
			must(t, born(s))
			must(t, s.close())
			if _, err := open(socket); refused(err, "SELF_DEPENDENCY") != nil {
				t.Errorf("started: %v", err)
			}
			// Elsewhere it starts, and so it does when the VM is trusted no more.
			s, err = open("none")
			must(t, err)
			_, _, err = s.enroll.Revoke(t.Context(), defaultTenant, "inside", "test", "test")
			must(t, err)
			must(t, s.close())
			s, err = open(socket)
			must(t, err)
			must(t, s.close())
		})
	}
	if _, err := openOwnTPM("unix:" + filepath.Join(t.TempDir(), "nobody")); err == nil {
		t.Error("a TPM that was named and is not there is passed over")
	}
}

// TestSelfDependencyMoved: a service that was started elsewhere and is asked
// for a lease or an admission of the VM that it runs in now.
func TestSelfDependencyMoved(t *testing.T) {
	d := admittedDemo(t)
	var vm api.VM
	must(t, d.operator.call(t.Context(), "GET", "/v1/vms/"+demoVM, nil, &vm))
	d.powerOff()
	d.goAway(t)
	dir := filepath.Join(d.dir, "service")
	s, err := openService(t.Context(), dir, serviceOptions{ownTPM: "none"})
	must(t, err)
	defer s.close()
	s.enroll.IsOwn = func([]byte) (bool, error) { return true, nil }
	_, err = s.enroll.Lend(t.Context(), enroll.Ask{Tenant: defaultTenant, VM: demoVM, Host: demoHost, Generation: d.generation, Actor: "test"})
	if refused(err, "SELF_DEPENDENCY") != nil {
		t.Errorf("a lease: %v", err)
	}
	_, err = s.enroll.Admit(t.Context(), enroll.Evidence{Tenant: defaultTenant, VM: demoVM, Nonce: s.enroll.Nonce(defaultTenant, demoVM, enroll.PurposeAdmit), Actor: "test"})
	if refused(err, "SELF_DEPENDENCY") != nil {
		t.Errorf("an admission: %v", err)
	}
}
