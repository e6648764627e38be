package main

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// evidence leaves what the last good admission was made of, for other people's tools.
func (d *demo) evidence() error {
	if d.keep == "" {
		return nil
	}
	write := func(name string, data []byte) error { return os.WriteFile(filepath.Join(d.keep, name), data, 0o600) }
	ak, err := client.PublicKey(&d.adm.AK)
	if err != nil {
		return err
	}
	akDER, err := x509.MarshalPKIXPublicKey(ak)
	if err != nil {
		return err
	}
	var quote, values []byte
	for _, it := range d.record.Items {
		switch it.Type {
		case attest.TPMQuote:
			quote = it.Data
		case attest.TPMPCRValues:
			values = it.Data
		}
	}
	// "TPM2B_ATTEST, TPMT_SIGNATURE", apart.
	dec := tpm2.NewDecoder(quote)
	message := bytes.Clone(dec.Buf(1024))
	if err := dec.Err(); err != nil || len(quote) < 2+len(message) {
		return errors.New("internal error: the quote is malformed")
	}
	var audit api.Checkpoint
	if err := d.operator.call(d.ctx, "GET", "/v1/audit/checkpoint", nil, &audit); err != nil {
		return err
	}
	state := filepath.Join(d.dir, "service")
	for name, data := range map[string][]byte{
		"ca.pem": []byte(api.PEM(d.root)), "vm.pem": []byte(api.PEM(d.adm.Chain[0])), "vm-chain.pem": []byte(api.PEM(d.adm.Chain[1:]...)),
		"ak.pem":    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: akDER}),
		"quote.msg": message, "quote.sig": quote[2+len(message):], "quote.nonce": fmt.Appendf(nil, "%x\n", d.adm.Signed),
		"pcrs.bin": pcrFile(values), "eventlog.bin": d.log, "residence.json": []byte(d.lease.Residence), "result.json": d.adm.Result, "result.jwt": []byte(d.adm.Token + "\n"),
		"checkpoint": []byte(audit.Checkpoint), "disk.key": d.key.Reveal(), "README.txt": []byte(evidenceReadme),
	} {
		if err := write(name, data); err != nil {
			return err
		}
	}
	if err := os.CopyFS(filepath.Join(d.keep, "audit"), os.DirFS(filepath.Join(state, dirAudit))); err != nil {
		return err
	}
	service, err := os.ReadFile(filepath.Join(state, fileService))
	if err != nil {
		return err
	}
	if err := write(fileService, service); err != nil {
		return err
	}
	if _, ok := d.disk.(envelope); ok {
		return nil
	}
	disk, err := os.ReadFile(filepath.Join(d.dir, "disk.luks"))
	if err != nil {
		return err
	}
	return write("disk.luks", disk)
}

// pcrFile is the values of the SHA-256 bank as tpm2_quote -o writes them:
// tpm2-tss's structures in memory on a little-endian machine, a
// TPML_PCR_SELECTION (16 entries), a number, and that many TPML_DIGESTs of 8.
func pcrFile(values []byte) []byte {
	const size, most = 32, 8
	le := binary.LittleEndian
	var mask [4]byte
	for _, p := range attest.BootPCRs() {
		mask[p/8] |= 1 << (p % 8)
	}
	out := le.AppendUint16(le.AppendUint32(nil, 1), uint16(tpm2.AlgSHA256))
	out = append(append(append(out, 3), mask[:]...), make([]byte, 1+15*8)...)
	n := len(values) / size
	out = le.AppendUint32(out, uint32((n+most-1)/most))
	for at := 0; at < n; at += most {
		out = le.AppendUint32(out, uint32(min(most, n-at)))
		for i := at; i < at+most; i++ {
			digest := make([]byte, 64)
			length := 0
			if i < n {
				length = copy(digest, values[i*size:(i+1)*size])
			}
			out = append(le.AppendUint16(out, uint16(length)), digest...)
		}
	}
	return out
}

const evidenceReadme = `What the demo left, and what other people's tools make of it (in this directory):

  openssl verify -CAfile ca.pem -untrusted vm-chain.pem -purpose sslclient vm.pem
  tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -g sha256 -q $(cat quote.nonce) -f pcrs.bin -e eventlog.bin
  tpm2_eventlog eventlog.bin
  cryptsetup luksDump disk.luks
  cryptsetup open --test-passphrase --key-file disk.key disk.luks
  vouchsafe audit verify --state . --checkpoint checkpoint
  vouchsafe attest verify result.jwt --ca ca.pem

quote.nonce is the qualifying data: the hash over the service's nonce, the VM, its keys and the TLS
connection. result.jwt is the appraisal, signed (an EAT: any JOSE library verifies it). residence.json says where the vTPM lived. disk.key is here because this is a demonstration:
a real agent never writes it down. disk.luks is there when cryptsetup was installed.

With --guest, quote, log and certificate are those of the guest's first boot, initrd is what it booted,
and console-N-NAME.txt is what a person read at its console in boot N.
`
