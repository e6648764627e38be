package vtpm

import (
	"encoding/binary"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// The client's buffer decides how large an answer may be: an ML-DSA-87
// signature has 4627 octets, which only a client that asks for more can take.
func TestBufferSize(t *testing.T) {
	i := openEngine(t, Config{Dir: t.TempDir()})
	for _, tt := range []struct {
		buffer, most uint32
		rc           tpm2.RC
	}{{0, 4096, tpm2.RCSize}, {8192, 8192, tpm2.RCSuccess}, {3968, 3968, tpm2.RCSize}} {
		if tt.buffer != 0 {
			i.SetBufferSize(tt.buffer)
		}
		if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
			t.Fatal(err)
		}
		c := clientOf(i)
		if err := c.Startup(tpm2.SUClear); err != nil {
			t.Fatal(err)
		}
		most, ok, err := c.Property(tpm2.PTMaxResponseSize)
		if err != nil || !ok || most != tt.most {
			t.Errorf("buffer %d: TPM_PT_MAX_RESPONSE_SIZE is %d (%v)", tt.buffer, most, err)
		}
		key, err := c.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), tpm2.TPMTPublic{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA256,
			ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.SignEncrypt,
			Parameters:       tpm2.TPMUPublicParms{MLDSADetail: tpm2.TPMSMLDSAParms{ParameterSet: tpm2.MLDSA87}}})
		if err != nil {
			t.Fatal(err)
		}
		var s tpm2.SignSequenceStartResponse
		if err := c.Execute(&tpm2.SignSequenceStart{KeyHandle: key.Handle}, &s); err != nil {
			t.Fatal(err)
		}
		// TPM2_SignSequenceComplete with two empty passwords and a message of three octets (Part 3, 20.6).
		cmd := binary.BigEndian.AppendUint16(nil, uint16(tpm2.STSessions))
		cmd = binary.BigEndian.AppendUint32(cmd, 10+8+4+18+5)
		cmd = binary.BigEndian.AppendUint32(cmd, uint32(tpm2.CCSignSequenceComplete))
		cmd = binary.BigEndian.AppendUint32(cmd, uint32(s.SequenceHandle))
		cmd = binary.BigEndian.AppendUint32(cmd, uint32(key.Handle))
		cmd = binary.BigEndian.AppendUint32(cmd, 18)
		for range 2 {
			cmd = append(binary.BigEndian.AppendUint32(cmd, uint32(tpm2.RSPW)), 0, 0, 0, 0, 0)
		}
		cmd = append(cmd, 0, 3, 'a', 'b', 'c')
		rsp := i.Execute(0, cmd, nil)
		if rc := tpm2.RC(binary.BigEndian.Uint32(rsp[6:])); rc != tt.rc || rc == tpm2.RCSuccess && len(rsp) < 4627 {
			t.Errorf("buffer %d: %v in %d octets, want %v", tt.buffer, rc, len(rsp), tt.rc)
		}
	}
}
