package differential

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A param is a parameter as the command table has it.
type param struct{ name, typ string }

// The command table of package tpm2, read as text: what is on the wire is taken
// from there by name, without the codec that is on trial.
const tableFile = "../../tpm2/internal/gen/commands.tbl"

var (
	requests  = map[string][]param{} // parameters of each command
	responses = map[string][]param{} // and of its response
	handles   = map[string][]param{} // handles, with @user: and the like before the type
)

func init() {
	f, err := os.Open(tableFile)
	if err != nil {
		panic("internal error: the command table has moved: " + err.Error())
	}
	defer f.Close()
	var cmd string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		w := strings.Fields(line)
		if len(w) == 0 || strings.HasPrefix(w[0], "#") {
			continue
		}
		if line[0] != ' ' {
			cmd = w[0]
			continue
		}
		var to map[string][]param
		switch w[0] {
		case "in":
			to = requests
		case "out":
			to = responses
		case "handles":
			to = handles
		default:
			continue
		}
		for _, p := range w[1:] {
			i := strings.LastIndex(p, ":")
			to[cmd] = append(to[cmd], param{p[:i], p[i+1:]})
		}
	}
}

var errShort = errors.New("too short")

func beUint16(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, errShort
	}
	return int(binary.BigEndian.Uint16(b)), nil
}

// list is the size of a counted list whose elements each tells its size.
func list(b []byte, each func([]byte) (int, error)) (int, error) {
	if len(b) < 4 {
		return 0, errShort
	}
	n, at := binary.BigEndian.Uint32(b), 4
	for range n {
		if at > len(b) {
			return 0, errShort
		}
		m, err := each(b[at:])
		if err != nil {
			return 0, err
		}
		at += m
	}
	return at, nil
}

// fieldSize is the size of a value of a type at the beginning of b.
func fieldSize(typ string, b []byte) (int, error) {
	fixed := map[string]int{"UINT8": 1, "TPMI_YES_NO": 1, "UINT16": 2, "UINT32": 4, "TPM_RC": 4, "UINT64": 8, "TPMS_TIME_INFO": 25}
	sizedAt := func(off int) (int, error) {
		if len(b) < off {
			return 0, errShort
		}
		n, err := beUint16(b[off:])
		return off + 2 + n, err
	}
	switch {
	case fixed[typ] > 0:
		return fixed[typ], nil
	case strings.HasPrefix(typ, "TPM2B_"):
		return sizedAt(0)
	case strings.HasPrefix(typ, "TPMT_TK_"):
		return sizedAt(6)
	case typ == "TPMS_CONTEXT":
		return sizedAt(16)
	case typ == "TPML_ALG":
		return list(b, func([]byte) (int, error) { return 2, nil })
	case typ == "TPML_DIGEST":
		return list(b, func(b []byte) (int, error) { n, err := beUint16(b); return 2 + n, err })
	case typ == "TPML_DIGEST_VALUES":
		return list(b, func(b []byte) (int, error) {
			alg, err := beUint16(b)
			return 2 + digestSize(uint16(alg)), err
		})
	case typ == "TPML_PCR_SELECTION":
		return list(b, func(b []byte) (int, error) {
			if len(b) < 3 {
				return 0, errShort
			}
			return 3 + int(b[2]), nil
		})
	case typ == "TPMT_SIGNATURE":
		alg, err := beUint16(b)
		switch uint16(alg) {
		case algorithms["null"]:
			return 2, err
		case algorithms["hmac"]:
			if len(b) < 4 {
				return 0, errShort
			}
			return 4 + digestSize(binary.BigEndian.Uint16(b[2:])), nil
		case algorithms["rsassa"], algorithms["rsapss"]:
			return sizedAt(4)
		case algorithms["ecdsa"], algorithms["ecdaa"], algorithms["ecschnorr"], algorithms["sm2"]:
			n, err := sizedAt(4)
			if err != nil {
				return 0, err
			}
			return sizedAt(n)
		}
		return 0, fmt.Errorf("signature algorithm 0x%x", alg)
	case typ == "TPMS_CAPABILITY_DATA", typ == "TPMS_ALGORITHM_DETAIL_ECC":
		return len(b), nil // always the last
	}
	return 0, fmt.Errorf("no layout for %s", typ)
}

func digestSize(alg uint16) int {
	switch alg {
	case hashes["sha1"]:
		return 20
	case hashes["sha256"]:
		return 32
	case hashes["sha384"]:
		return 48
	case hashes["sha512"]:
		return 64
	}
	return 0
}
