package engine

import (
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The strictness table: each rule that a TPM enforces is a row, with the exact
// response code and the clause that asks for it. The rows are in
// strict_*_test.go, by subject. Where libtpms answers otherwise the row says
// what and why, and TestStrictnessOfLibtpms checks that it still does, so that
// no difference goes unnoticed.

// A rule is one row.
type rule struct {
	name string
	cite string  // Part and clause
	want tpm2.RC // what must be answered
	run  func(b *bench) tpm2.RC

	libtpms tpm2.RC // what libtpms 0.9 answers instead, when because is not empty
	because string
}

var rules = map[string][]rule{
	"header": headerRules, "handle": handleRules, "session": sessionRules, "parameter": parameterRules,
	"template": templateRules, "object": objectRules, "nv": nvRules, "hierarchy": hierarchyRules,
	"startup": startupRules, "da": daRules, "policy": policyRules, "pcr": pcrRules, "capability": capabilityRules,
}

func TestStrictness(t *testing.T) {
	for subject, rows := range rules {
		for _, r := range rows {
			t.Run(subject+"/"+r.name, func(t *testing.T) {
				b := newBench(t)
				if got := r.run(b); got != r.want {
					t.Errorf("%s: got %v, want %v", r.cite, got, r.want)
				}
				if b.tpm.ram.started {
					b.loc = 0
					b.ok(&tpm2.GetRandom{BytesRequested: 1}, nil) // whatever was said, the TPM goes on
				}
			})
		}
	}
}

// TestStrictnessOfLibtpms runs the same table against Debian's swtpm.
func TestStrictnessOfLibtpms(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each rule")
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("swtpm is absent: apt-get install swtpm")
		}
		t.Skip("swtpm is absent: apt-get install swtpm")
	}
	for subject, rows := range rules {
		for _, r := range rows {
			t.Run(subject+"/"+r.name, func(t *testing.T) {
				t.Parallel()
				want := r.want
				if r.because != "" {
					want = r.libtpms
				}
				b := &bench{t: t, other: newSwtpm(t)}
				b.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
				if got := r.run(b); got != want {
					t.Errorf("%s: libtpms says %v, the row expects %v of it (%s)", r.cite, got, want, r.because)
				}
			})
		}
	}
}

// peer is another TPM on the bench.
type peer interface {
	execute(locality uint8, cmd []byte) []byte
	power() // off and on again
}

// swtpm is Debian's software TPM, over its two sockets.
type swtpm struct {
	t        testing.TB
	data     net.Conn
	control  net.Conn
	locality uint8
}

func newSwtpm(t testing.TB) *swtpm {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm") // t.TempDir has characters that end an option of swtpm
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, control := filepath.Join(dir, "s"), filepath.Join(dir, "c")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+data,
		"--ctrl", "type=unixio,path="+control, "--flags", "not-need-init")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	dial := func(path string) net.Conn {
		for range 500 {
			if c, err := net.Dial("unix", path); err == nil {
				t.Cleanup(func() { c.Close() })
				return c
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("swtpm does not listen on %s", path)
		return nil
	}
	return &swtpm{t: t, data: dial(data), control: dial(control)}
}

// order sends one control command, which must succeed.
func (s *swtpm) order(msg ...byte) {
	s.t.Helper()
	if _, err := s.control.Write(msg); err != nil {
		s.t.Fatal(err)
	}
	rsp := make([]byte, 4)
	if _, err := s.control.Read(rsp); err != nil || binary.BigEndian.Uint32(rsp) != 0 {
		s.t.Fatalf("swtpm's control channel: %x, %v", rsp, err)
	}
}

func (s *swtpm) power() {
	s.order(0, 0, 0, 2, 0, 0, 0, 0) // CMD_INIT
	s.locality = 0
}

func (s *swtpm) execute(locality uint8, cmd []byte) []byte {
	s.t.Helper()
	for range 5 { // it asks for another try where it writes a state down (TPM_RC_RETRY)
		rsp := s.once(locality, cmd)
		if tpm2.RC(binary.BigEndian.Uint32(rsp[6:])) != tpm2.RCRetry {
			return rsp
		}
	}
	s.t.Fatal("swtpm wants ever more tries")
	return nil
}

func (s *swtpm) once(locality uint8, cmd []byte) []byte {
	s.t.Helper()
	if locality != s.locality {
		s.order(0, 0, 0, 5, locality) // CMD_SET_LOCALITY
		s.locality = locality
	}
	if _, err := s.data.Write(cmd); err != nil {
		s.t.Fatal(err)
	}
	rsp := make([]byte, MaxCommandSize)
	n := 0
	for n < headerSize || n < int(binary.BigEndian.Uint32(rsp[2:])) {
		got, err := s.data.Read(rsp[n:])
		if err != nil {
			s.t.Fatal(err)
		}
		n += got
	}
	return rsp[:n]
}

// frame makes a command from its pieces; the size is filled in.
func frame(tag tpm2.ST, cc tpm2.CC, parts ...any) []byte {
	e := tpm2.NewEncoder(nil)
	e.U16(uint16(tag))
	e.U32(0)
	e.U32(uint32(cc))
	for _, p := range parts {
		switch v := p.(type) {
		case tpm2.Handle:
			e.U32(uint32(v))
		case uint8:
			e.U8(v)
		case uint16:
			e.U16(v)
		case uint32:
			e.U32(v)
		case []byte:
			e.Bytes(v)
		case tpm2.Command:
			v.EncodeParameters(e)
		default:
			panic("internal error: frame does not know this type")
		}
	}
	binary.BigEndian.PutUint32(e.Out()[2:], uint32(len(e.Out())))
	return e.Out()
}

// authEntry is one session of an authorization area.
func authEntry(h tpm2.Handle, nonce []byte, attr tpm2.SessionAttributes, hmac []byte) []byte {
	e := tpm2.NewEncoder(nil)
	e.U32(uint32(h))
	e.Buf(nonce)
	e.U8(uint8(attr))
	e.Buf(hmac)
	return e.Out()
}

// area is an authorization area with its size.
func area(entries ...[]byte) []byte {
	e := tpm2.NewEncoder(nil)
	n := 0
	for _, x := range entries {
		n += len(x)
	}
	e.U32(uint32(n))
	for _, x := range entries {
		e.Bytes(x)
	}
	return e.Out()
}

// noPassword is the entry of an empty password.
var noPassword = authEntry(tpm2.RSPW, nil, tpm2.ContinueSession, nil)

// with makes a command with the given authorization area.
func with(cmd tpm2.Command, entries ...[]byte) []byte {
	parts := []any{}
	for _, h := range cmd.AppendHandles(nil) {
		parts = append(parts, h)
	}
	return frame(tpm2.STSessions, cmd.CommandCode(), append(parts, area(entries...), cmd)...)
}

// session starts a session of some kind, unbound and unsalted.
func (b *bench) session(kind tpm2.SE) tpm2.Handle {
	b.t.Helper()
	var s tpm2.StartAuthSessionResponse
	b.ok(startSession(kind), &s)
	return s.SessionHandle
}

func startSession(kind tpm2.SE) *tpm2.StartAuthSession {
	return &tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: kind,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}
}

// always is the rule of one command on a fresh TPM.
func always(cmd tpm2.Command) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC { return b.do(cmd, nil) }
}

// octets is the rule of one command given as it goes over the wire.
func octets(cmd []byte) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC { return b.raw(cmd, nil) }
}
