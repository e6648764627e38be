package client_test

import (
	"fmt"
	"log"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// A secret is sealed so that it opens only while PCR 7 is as it is now, and
// crosses the wire only encrypted.
func Example() {
	tpm, err := client.Open("/dev/tpmrm0")
	if err != nil {
		log.Print(err) // says what to do about it
		return
	}
	defer tpm.Close()
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	srk, err := tpm.CreatePrimary(owner, client.SRKTemplate(client.P256))
	if err != nil {
		log.Print(err)
		return
	}
	defer tpm.Flush(srk.Handle)

	sel := client.Select(tpm2.AlgSHA256, 7)
	values, err := tpm.ReadPCRs(sel)
	if err != nil {
		log.Print(err)
		return
	}
	pcrs, _ := values.Digest(tpm2.AlgSHA256, sel)
	policy, _ := client.NewPolicy(tpm2.AlgSHA256)
	session, err := tpm.StartSession(client.SessionConfig{Salt: srk})
	if err != nil {
		log.Print(err)
		return
	}
	blob, err := tpm.Seal(session.Auth(srk.Entity, tpm2.SessionDecrypt).Once(), []byte("secret"), policy.PCR(sel, pcrs).Digest(), nil)
	if err != nil {
		log.Print(err)
		return
	}

	item, err := tpm.Load(srk, blob, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer tpm.Flush(item.Handle)
	open, err := tpm.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Salt: srk})
	if err != nil {
		log.Print(err)
		return
	}
	defer open.Close()
	if err := open.PolicyPCR(sel, nil); err != nil {
		log.Print(err)
		return
	}
	secret, err := tpm.Unseal(open.Auth(item.Entity, tpm2.SessionEncrypt))
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(len(secret), "octets")
}

// A verifier calculates the policy of a secret that a TPM opens with its PIN and
// only by Unseal; no TPM is needed for that.
func ExamplePolicy() {
	p, err := client.NewPolicy(tpm2.AlgSHA256)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", p.CommandCode(tpm2.CCUnseal).AuthValue().Digest())
	fmt.Printf("%x\n", p.Secret(client.HierarchyName(tpm2.RHEndorsement), nil).Digest()[:4])
	// Output:
	// 6ebf9cb1972ce3f9e641f7f3fe6454cf1c467cff2eb154a06d61abf7dce7a29c
	// b0d6a404
}
