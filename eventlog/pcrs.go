package eventlog

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// maxPCRText is the longest text of PCR values: all banks and PCRs fit in 20 kB.
const maxPCRText = 64 << 10

// ParsePCRs reads PCR values as people have them: the output of tpm2_pcrread
// ("sha256:" and below it "  7 : 0x65CA…"), or lines of "sha256 7 65ca…".
func ParsePCRs(text []byte) (map[Alg]map[int][]byte, error) {
	if len(text) > maxPCRText {
		return nil, fmt.Errorf("reading PCR values: %d bytes; the limit is %d", len(text), maxPCRText)
	}
	out := map[Alg]map[int][]byte{}
	var bank Alg
	s := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; s.Scan(); n++ {
		w := strings.FieldsFunc(s.Text(), func(r rune) bool { return r == ':' || r == ' ' || r == '\t' || r == '\r' })
		if len(w) == 0 || strings.HasPrefix(w[0], "#") || w[0] == "pcrs" || w[0] == "---" {
			continue
		}
		if a, err := ParseAlg(w[0]); err == nil {
			bank, w = a, w[1:]
		}
		if len(w) == 0 {
			continue
		}
		bad := fmt.Errorf("reading PCR values: line %d is neither a bank, nor a PCR with its value", n)
		if bank == 0 || len(w) != 2 {
			return nil, bad
		}
		pcr, err := strconv.Atoi(w[0])
		v, err2 := hex.DecodeString(strings.TrimPrefix(strings.ToLower(w[1]), "0x"))
		if err != nil || err2 != nil || pcr < 0 || pcr > MaxPCR || len(v) != bank.Size() {
			return nil, bad
		}
		if out[bank] == nil {
			out[bank] = map[int][]byte{}
		}
		if _, twice := out[bank][pcr]; twice {
			return nil, fmt.Errorf("reading PCR values: line %d gives %v PCR %d a second time", n, bank, pcr)
		}
		out[bank][pcr] = v
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("reading PCR values: %v", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("reading PCR values: there are none")
	}
	return out, nil
}
