package eventlog

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestDirectBootIsAsOVMFMakesIt takes the contents from a real log and writes
// it again: all is the same but where in memory the kernel was.
func TestDirectBootIsAsOVMFMakesIt(t *testing.T) {
	real := parse(t, readLog(t, "ovmf-direct"))
	f := Firmware{Version: real.Events[1].Data}
	for _, e := range real.Events {
		switch e.Type {
		case EVEFIFirmwareBlob:
			f.Volumes = append(f.Volumes, Volume{binary.LittleEndian.Uint64(e.Data), binary.LittleEndian.Uint64(e.Data[8:]), e.Digests})
		case EVEFIVariableDriver, EVEFIVariableBoot:
			v, err := decodeVariable(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			if e.PCR == 7 {
				f.SecureBoot = append(f.SecureBoot, Variable{v.vendor, v.name, v.value})
			} else {
				f.Boot = append(f.Boot, Variable{v.vendor, v.name, v.value})
			}
		}
	}
	m := &Measured{Kernel: real.Events[10].Digests, CommandLine: real.Events[21].Digests, Initrd: real.Events[22].Digests}
	made, err := m.DirectBoot(f, real.Algs...)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Events) != len(real.Events) {
		t.Fatalf("%d events, want %d", len(made.Events), len(real.Events))
	}
	for i := range made.Events[1:] {
		got, want := made.Events[i+1], real.Events[i+1]
		if got.PCR != want.PCR || got.Type != want.Type || !bytes.Equal(got.Digest(SHA384), want.Digest(SHA384)) ||
			got.Type != EVEFIBootServicesApp && !bytes.Equal(got.Data, want.Data) {
			t.Errorf("event %d: %d %v %s, want %d %v %s", i+1, got.PCR, got.Type, got.Text(), want.PCR, want.Type, want.Text())
		}
	}
	if got, want := codes(parse(t, made.Encode())), codes(real); got != want {
		t.Errorf("findings %q, want %q", got, want)
	}
}
