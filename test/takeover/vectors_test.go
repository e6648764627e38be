package takeover

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

var update = flag.Bool("update", false, "write the engine's vectors anew, as swtpm makes them")

// TestVectors makes the vectors of tpm2/engine/testdata under swtpm, with seeds
// of both compatibility levels put into its state file, and compares. Seeds of
// level 0 are those from before libtpms 0.8; libtpms has kept their derivation.
func TestVectors(t *testing.T) {
	for level := range byte(2) {
		s := startTheirs(t)
		s.stop()
		patchSeeds(t, filepath.Join(s.dir, "tpm2-00.permall"), level)
		s.start(t)
		var b strings.Builder
		fmt.Fprintf(&b, `# Derivation %d (docs/formats/derivation.md), as libtpms made it.
# A line: hierarchy, name, sensitive data or -, TPMT_PUBLIC of the template and of the
# key, then for a parent a sealed object under it, its TPMT_PUBLIC and the inside
# of its TPM2B_PRIVATE, which opens with the key's seedValue only. All in
# hexadecimal. Seeds and proofs are one octet, 64 times: EPS 01, SPS 02, PPS 03,
# phProof 11, shProof 12, ehProof 13.
`, 128+level)
		for _, p := range templates(func(n int) []byte { return bytes.Repeat([]byte{0x5a}, n) }) {
			in := client.Hierarchy(p.hierarchy, nil)
			k, _, err := s.CreatePrimaryObject(in, client.NewObject{Public: p.template, Data: p.data})
			if err != nil {
				t.Fatal(err)
			}
			child := &client.Blob{}
			data := "-"
			if p.data != nil {
				data = fmt.Sprintf("%x", p.data)
			}
			fmt.Fprintf(&b, "%08x %s %s %x %x", uint32(p.hierarchy), strings.ReplaceAll(p.name, " ", "-"), data, tpm2.Marshal(&p.template), tpm2.Marshal(&k.Public))
			if isParent(&k.Public) {
				if child, err = sealUnder(t, s.Client, k, "made under swtpm"); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, " %x %x", tpm2.Marshal(&child.Public), child.Private)
			}
			b.WriteString("\n")
			s.Flush(k.Handle)
		}
		file := fmt.Sprintf("../../tpm2/engine/testdata/derivation-%d.txt", 128+level)
		if *update {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// What is sealed is random; what it is sealed under is not.
		if keys(b.String()) != keys(string(want)) {
			t.Errorf("swtpm does not make the keys of %s", file)
		}
		// And the whole way, through the state file.
		ours := startOurs(t, s)
		for _, p := range templates(func(n int) []byte { return bytes.Repeat([]byte{0x5a}, n) }) {
			compare(t, s.Client, ours, p, fmt.Sprintf("level %d: %s", level, p.name))
		}
	}
}

// keys are the lines of a file of vectors without the sealed objects.
func keys(file string) string {
	var b strings.Builder
	for l := range strings.Lines(file) {
		f := strings.SplitN(strings.TrimSpace(l), " ", 6)
		b.WriteString(strings.Join(f[:min(5, len(f))], " ") + "\n")
	}
	return b.String()
}

// patchSeeds gives the TPM in a state file known seeds and proofs, and the seeds
// a compatibility level. In PERSISTENT_DATA (magic 12213443) of a new TPM they are
// behind a flag, three algorithms and six empty buffers; the levels are at its end,
// in a block of six octets.
func patchSeeds(t *testing.T, file string, level byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, binary.BigEndian.AppendUint32(nil, 0x12213443))
	if at < 0 {
		t.Fatal("no PERSISTENT_DATA")
	}
	at += 4 + 2 + 1 + 3*2 + 6*2
	for _, octet := range []byte{1, 2, 3, 0x11, 0x12, 0x13} {
		if !bytes.Equal(b[at:at+2], []byte{0, 64}) {
			t.Fatal("the seeds are elsewhere")
		}
		copy(b[at+2:], bytes.Repeat([]byte{octet}, 64))
		at += 2 + 64
	}
	levels := []byte{1, 0, 6, 1, 1, 1, 1, 0, 0}
	if bytes.Count(b[at:], levels) != 1 {
		t.Fatal("the levels are elsewhere")
	}
	copy(b[at+bytes.Index(b[at:], levels)+3:], []byte{level, level, level})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
