package pkcs11

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// The library itself is in test/modules: SoftHSM behind p11-kit.

func TestParseURI(t *testing.T) {
	u, err := ParseURI("pkcs11:token=my%20hsm;serial=1;object=kmod%3b;id=%01%ff;type=private?pin-source=file:/etc/pin&module-path=/usr/lib/x.so")
	if err != nil {
		t.Fatal(err)
	}
	if u.Token != "my hsm" || u.Object != "kmod;" || !bytes.Equal(u.ID, []byte{1, 0xff}) || u.PINSource != "file:/etc/pin" || u.ModulePath != "/usr/lib/x.so" {
		t.Errorf("%+v", u)
	}
	if got := u.TokenURI(); got != "pkcs11:serial=1;token=my%20hsm" {
		t.Errorf("the token's URI is %s", got)
	}
	for _, bad := range []string{"", "token=x", "pkcs11:token", "pkcs11:token=a;token=b", "pkcs11:object=%zz", "pkcs11:type=cert", "pkcs11:colour=red",
		"pkcs11:object=x?module-path=lib.so", "pkcs11:object=x?module-name=x", "pkcs11:" + strings.Repeat("x", maxURI)} {
		if _, err := ParseURI(bad); err == nil {
			t.Errorf("%.60q: accepted", bad)
		}
	}
	if _, err := ParseURI("pkcs11:object=x?pin-value=1234"); !errors.Is(err, ErrPINInURI) || strings.Contains(err.Error(), "1234") {
		t.Errorf("a PIN in the URI: %v", err)
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=my%20hsm;object=kmod?pin-source=file:/etc/pin")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.TokenURI())
		if err != nil || again.Token != u.Token || again.Serial != u.Serial {
			t.Errorf("the token's URI %q is read as %+v: %v", u.TokenURI(), again, err)
		}
	})
}

// pipe answers with fixed bytes.
type pipe struct {
	io.Reader
	io.Writer
}

// FuzzAnswers lets p11-kit say anything.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0}) // C_Initialize done
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 1, 'u', 0, 0, 0, 0, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Open(pipe{bytes.NewReader(b), io.Discard}, new(URI), func(string) (secret.Bytes, error) { return secret.Copy([]byte("1234")), nil }, nil)
		if err == nil && k.Public() == nil {
			t.Error("a key without a public key")
		}
	})
}

// FuzzReading reads every kind of result out of any bytes.
func FuzzReading(f *testing.F) {
	f.Add("aAu", []byte{0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add("au", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, signature string, b []byte) {
		for _, read := range []func(*message){
			func(m *message) { m.readAttributes(); m.readUlong() }, func(m *message) { m.readUlongs() },
			func(m *message) { m.readBytes() }, func(m *message) { m.readText() },
		} {
			m := &message{signature: signature, b: bytes.Clone(b)}
			read(m)
			_ = m.end()
		}
	})
}
