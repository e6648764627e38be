package client_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// response is a response as a TPM would frame it.
func response(tag tpm2.ST, rc tpm2.RC, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(rc))
	return append(b, body...)
}

// canned answers every command with the same octets.
func canned(b []byte) *client.Client {
	return client.New(client.Direct(func([]byte) []byte { return b }))
}

func TestMalformedResponses(t *testing.T) {
	random := []byte{0, 4, 1, 2, 3, 4}
	for _, tt := range []struct {
		name string
		rsp  []byte
		want error
	}{
		{"empty", nil, io.ErrUnexpectedEOF},
		{"half a header", response(tpm2.STNoSessions, 0)[:5], io.ErrUnexpectedEOF},
		{"cut", response(tpm2.STNoSessions, 0, random...)[:12], io.ErrUnexpectedEOF},
		{"longer than its size", append(response(tpm2.STNoSessions, 0, random...), 0), client.ErrResponse},
		{"size below the header's", []byte{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}, client.ErrResponse},
		{"huge size", []byte{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, client.ErrResponse},
		{"sessions not asked for", response(tpm2.STSessions, 0, append([]byte{0, 0, 0, 6}, random...)...), client.ErrResponse},
		{"TPM 1.2's tag", response(tpm2.STRspCommand, 0, random...), client.ErrResponse},
		{"trailing octet", response(tpm2.STNoSessions, 0, append(random, 0)...), client.ErrResponse},
		{"no parameters", response(tpm2.STNoSessions, 0), client.ErrResponse},
		{"more than asked for", response(tpm2.STNoSessions, 0, 0, 5, 1, 2, 3, 4, 5), client.ErrResponse},
		{"none at all", response(tpm2.STNoSessions, 0, 0, 0), client.ErrResponse},
		{"refusal with a body", response(tpm2.STNoSessions, tpm2.RCValue, 0), client.ErrResponse},
		{"refusal with sessions", response(tpm2.STSessions, tpm2.RCValue), client.ErrResponse},
		{"refusal", response(tpm2.STNoSessions, tpm2.RCValue.Param(1)), tpm2.RCValue},
		{"refusal by TPM 1.2", response(tpm2.STRspCommand, tpm2.RCBadTag), tpm2.RCBadTag},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := canned(tt.rsp).GetRandom(4); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("sessions", func(t *testing.T) {
		c := canned(response(tpm2.STSessions, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
		if err := c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil, client.Hierarchy(tpm2.RHLockout, nil)); err != nil {
			t.Errorf("a good response: %v", err)
		}
		for name, area := range map[string][]byte{
			"no area":               {0, 0, 0, 0},
			"huge parameters":       {0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0, 0},
			"one session too many":  {0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0},
			"HMAC for a password":   {0, 0, 0, 0, 0, 0, 1, 0, 1, 7},
			"nonce for a password":  {0, 0, 0, 0, 0, 1, 7, 1, 0, 0},
			"nonce over its bounds": append([]byte{0, 0, 0, 0, 0, 65}, make([]byte, 68)...),
		} {
			c := canned(response(tpm2.STSessions, 0, area...))
			if err := c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil, client.Hierarchy(tpm2.RHLockout, nil)); !errors.Is(err, client.ErrResponse) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestEndlessLists has a TPM say "there is more" for ever.
func TestEndlessLists(t *testing.T) {
	calls := 0
	c := client.New(client.Direct(func(cmd []byte) []byte {
		calls++
		property := binary.BigEndian.Uint32(cmd[14:])
		b := []byte{1, 0, 0, 0, 6, 0, 0, 0, 1}
		b = binary.BigEndian.AppendUint32(b, property)
		return response(tpm2.STNoSessions, 0, append(b, 0, 0, 0, 0)...)
	}))
	if _, err := c.Properties(tpm2.PTFamilyIndicator); !errors.Is(err, client.ErrResponse) || calls > 1000 {
		t.Errorf("%d calls: %v", calls, err)
	}
	same := response(tpm2.STNoSessions, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0)
	if _, err := canned(same).Properties(tpm2.PTFamilyIndicator); !errors.Is(err, client.ErrResponse) {
		t.Errorf("the same over again: %v", err)
	}
}

func TestBrokenConnectionStaysBroken(t *testing.T) {
	calls := 0
	c := client.New(client.Direct(func([]byte) []byte {
		if calls++; calls == 1 {
			return []byte{0x80}
		}
		return response(tpm2.STNoSessions, 0, 0, 1, 7)
	}))
	for range 3 {
		if _, err := c.GetRandom(1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("%d commands were sent", calls)
	}
}

type pieces struct {
	io.Writer
	io.Reader
}

func TestResponseInPieces(t *testing.T) {
	c := client.New(pieces{io.Discard, iotest.OneByteReader(bytes.NewReader(response(tpm2.STNoSessions, 0, 0, 3, 1, 2, 3)))})
	if b, err := c.GetRandom(3); err != nil || !bytes.Equal(b, []byte{1, 2, 3}) {
		t.Errorf("%x, %v", b, err)
	}
	c = client.New(pieces{io.Discard, idle{}})
	if _, err := c.GetRandom(3); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	c = client.New(pieces{iotest.TruncateWriter(io.Discard, 3), idle{}})
	if _, err := c.GetRandom(3); err == nil {
		t.Error("a short write passes")
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestBusyTPM(t *testing.T) {
	for _, rc := range []tpm2.RC{tpm2.RCRetry, tpm2.RCYielded, tpm2.RCTesting} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			var first []byte
			c := client.New(client.Direct(func(cmd []byte) []byte {
				if calls++; calls == 1 {
					first = bytes.Clone(cmd)
				}
				if !bytes.Equal(cmd, first) {
					t.Errorf("command %d is another", calls)
				}
				if calls < 10 {
					return response(tpm2.STNoSessions, rc)
				}
				return response(tpm2.STNoSessions, 0, 0, 1, 7)
			}))
			if _, err := c.GetRandom(1); err != nil || calls != 10 {
				t.Errorf("%v after %d", err, calls)
			}
			start := time.Now()
			if _, err := canned(response(tpm2.STNoSessions, rc)).GetRandom(1); !errors.Is(err, rc) {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d < 9*time.Second || d > 10*time.Second {
				t.Errorf("gave up after %v", d)
			}
		})
	}
}

// TestNothingSent is about mistakes that are found before the TPM is asked.
func TestNothingSent(t *testing.T) {
	c := client.New(client.Direct(func([]byte) []byte { t.Error("something was sent"); return nil }))
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	for name, err := range map[string]error{
		"no authorization":       c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil),
		"nil authorization":      c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil, nil),
		"of another handle":      c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil, owner),
		"two for one":            c.Execute(&tpm2.Clear{AuthHandle: tpm2.RHOwner}, nil, owner, owner),
		"for a command of none":  c.Execute(&tpm2.Startup{}, nil, owner),
		"password as an extra":   c.Execute(&tpm2.GetRandom{BytesRequested: 1}, nil, owner),
		"longer than any buffer": c.Execute(&tpm2.HashSequenceStart{Auth: make([]byte, 5000), HashAlg: tpm2.AlgSHA256}, nil),
	} {
		if err == nil {
			t.Errorf("%s: it passes", name)
		} else if !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for path, want := range map[string]string{
		"/dev/tpm-not-there":         "shows no TPM",
		"tpm0":                       "give /dev/tpmrm0",
		"/etc/passwd":                "not a character device",
		"unix:" + t.TempDir() + "/s": "nothing has made that socket",
		"tcp:127.0.0.1:1":            "nobody listens there",
	} {
		if _, err := client.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestOpen(t *testing.T) {
	c := must(client.Open("unix:" + swtpm(t)))(t)
	if _, err := c.GetRandom(8); err != nil {
		t.Error(err)
	}
	if _, err := c.StartSession(client.SessionConfig{}); err != nil { // left open on purpose
		t.Error(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.GetRandom(8); err == nil {
		t.Error("a closed client answers")
	}
}

// TestDevice opens a character device that is no TPM.
func TestDevice(t *testing.T) {
	c, err := client.Open("/dev/null")
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	if _, err := c.GetRandom(1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestSecretsDoNotPrint prints what holds secrets in every way.
func TestSecretsDoNotPrint(t *testing.T) {
	e := client.Entity{Handle: 1, Auth: client.Secret([]byte("hunter2"))}
	held := struct{ entity any }{e}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{e, &e, held, e.Auth} {
			s := fmt.Sprintf(verb, v)
			for _, leak := range []string{"hunter2", "68756e74657232", "104 117 110"} {
				if strings.Contains(s, leak) {
					t.Errorf("%s of %T leaks: %s", verb, v, s)
				}
			}
		}
	}
}

// FuzzResponse feeds arbitrary responses to commands with and without sessions.
func FuzzResponse(f *testing.F) {
	f.Add(uint16(0x17b), response(tpm2.STNoSessions, 0, 0, 1, 7))
	f.Add(uint16(0x17e), response(tpm2.STNoSessions, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(uint16(0x126), response(tpm2.STSessions, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
	f.Add(uint16(0x17a), response(tpm2.STNoSessions, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0))
	f.Add(uint16(0x15e), response(tpm2.STNoSessions, tpm2.RCPolicyFail.Session(1)))
	f.Add(uint16(0x131), response(tpm2.STSessions, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
	f.Fuzz(func(t *testing.T, code uint16, rsp []byte) {
		info := tpm2.Info(tpm2.CC(code))
		if info == nil {
			return
		}
		cmd := info.NewCommand()
		cmd.SetHandles(make([]tpm2.Handle, len(info.Handles)))
		auths := make([]client.Auth, info.Auths())
		for i := range auths {
			auths[i] = client.Entity{}
		}
		c := canned(rsp)
		got := info.NewResponse()
		if err := c.Execute(cmd, got, auths...); err != nil {
			_ = err.Error()
			return
		}
		// What was accepted encodes to what came.
		e := tpm2.NewEncoder(nil)
		got.EncodeParameters(e)
		if !bytes.Contains(rsp, e.Out()) {
			t.Errorf("%s: %x decodes to something that encodes to %x", info.Name, rsp, e.Out())
		}
	})
}

// FuzzVerifyQuote feeds arbitrary public areas, statements and signatures.
func FuzzVerifyQuote(f *testing.F) {
	for _, kind := range kinds {
		pub := client.AKTemplate(kind)
		f.Add(tpm2.Marshal(&pub), []byte("\xffTCG\x80\x18"), []byte{0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1}, []byte("nonce"))
	}
	f.Fuzz(func(t *testing.T, area, attest, sig, nonce []byte) {
		var pub tpm2.TPMTPublic
		if tpm2.Unmarshal(area, &pub) != nil {
			return
		}
		if _, err := client.VerifyQuote(&pub, attest, sig, nonce); err == nil {
			t.Error("a forged quote passes")
		}
		if k, err := client.PublicKey(&pub); err == nil && pub.NameAlg != tpm2.AlgNull {
			if _, err := client.PublicArea(k, 0); err != nil {
				t.Errorf("no public area for the key of %x: %v", area, err)
			}
		}
		client.MakeCredential(&pub, nonce, attest)
	})
}
