package main

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// demoCommandLine is what the demo's kernel is started with.
const demoCommandLine = "root=/dev/mapper/root ro quiet"

// bootOf is a boot as OVMF and Linux measure it: the form of each event is
// theirs, the contents are the demo's own.
func bootOf(commandLine string, banks ...eventlog.Alg) (*eventlog.Log, error) {
	digests := func(data []byte) []eventlog.Digest {
		var out []eventlog.Digest
		for _, b := range banks {
			out = append(out, eventlog.Digest{Alg: b, Sum: b.Sum(data)})
		}
		return out
	}
	b := eventlog.Boot{CommandLine: commandLine, Initrd: []byte("the demo's initrd, with its agent")}
	m := eventlog.Measured{Kernel: digests([]byte("the demo's kernel")), CommandLine: digests(b.LoadOptions()), Initrd: digests(b.Initrd)}
	var version []byte
	for _, u := range utf16.Encode([]rune("vouchsafe demo firmware\x00")) {
		version = append(version, byte(u), byte(u>>8))
	}
	// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it is in memory.
	global := [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	f := eventlog.Firmware{Version: version,
		Volumes:    []eventlog.Volume{{Base: 0x820000, Length: 0xe0000, Digests: digests([]byte("PEI"))}, {Base: 0x900000, Length: 0xd00000, Digests: digests([]byte("DXE"))}},
		SecureBoot: []eventlog.Variable{{Vendor: global, Name: "SecureBoot", Value: []byte{1}}, {Vendor: global, Name: "PK"}, {Vendor: global, Name: "KEK"}},
		Boot:       []eventlog.Variable{{Vendor: global, Name: "BootOrder", Value: []byte{0, 0}}},
	}
	return m.DirectBoot(f, banks...)
}

// boot switches the VM on and plays its firmware. What is in unlogged is only extended.
func (d *demo) boot(commandLine string, unlogged ...int) error {
	if err := d.powerOn(); err != nil {
		return err
	}
	return d.measure(commandLine, unlogged...)
}

// measure plays the firmware of a vTPM that was switched on.
func (d *demo) measure(commandLine string, unlogged ...int) error {
	log, banks, err := playBoot(d.tpm, commandLine)
	if err != nil {
		return err
	}
	for _, pcr := range unlogged {
		if _, err := d.tpm.EventPCR(pcr, []byte("something that nobody logs")); err != nil {
			return err
		}
	}
	d.log, d.banks = log, banks
	return nil
}

// playBoot is firmware and boot loader: every event is extended into the TPM and
// written to the log.
func playBoot(tpm *client.Client, commandLine string) ([]byte, []eventlog.Alg, error) {
	active, err := tpm.Banks()
	if err != nil {
		return nil, nil, err
	}
	var banks []eventlog.Alg
	for _, b := range active {
		if bytes.Equal(b.PCRSelect, []byte{0xff, 0xff, 0xff}) {
			banks = append(banks, eventlog.Alg(b.Hash))
		}
	}
	log, err := bootOf(commandLine, banks...)
	if err != nil {
		return nil, nil, err
	}
	return log.Encode(), banks, extendAll(tpm, log)
}

// extendAll extends every event of a log into the TPM.
func extendAll(tpm *client.Client, log *eventlog.Log) error {
	for i := range log.Events {
		e := &log.Events[i]
		if !e.Extends() {
			continue
		}
		var digests []tpm2.TPMTHA
		for _, dg := range e.Digests {
			digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.AlgID(dg.Alg), Digest: dg.Sum})
		}
		if err := tpm.ExtendPCR(int(e.PCR), digests...); err != nil {
			return fmt.Errorf("extending PCR %d: %w", e.PCR, err)
		}
	}
	return nil
}

// replays checks the log against the PCRs of the vTPM, in every bank.
func (d *demo) replays() (events int, err error) {
	log, err := eventlog.Parse(d.log)
	if err != nil {
		return 0, err
	}
	for _, bank := range d.banks {
		replayed, err := log.Replay(bank)
		if err != nil {
			return 0, err
		}
		all := bytes.Repeat([]byte{0xff}, 2)
		values, err := d.tpm.ReadPCRs([]tpm2.TPMSPCRSelection{{Hash: tpm2.AlgID(bank), PCRSelect: append(all, 0)}})
		if err != nil {
			return 0, err
		}
		for pcr := range 16 {
			if !bytes.Equal(values[tpm2.AlgID(bank)][pcr], replayed.PCR[pcr]) {
				return 0, fmt.Errorf("PCR %d of %v is not what the log leads to", pcr, bank)
			}
		}
	}
	if len(d.banks) == 0 {
		return 0, errors.New("the vTPM has no PCR bank")
	}
	return len(log.Events), nil
}
