package keyring

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

var birth = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T, r *Ring, c Class) Key {
	t.Helper()
	k, err := r.Create("default", "k", c, DefaultPolicy(c), birth)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t *testing.T, r *Ring, k Key) *Opened {
	t.Helper()
	o, err := r.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestVectors reads testdata/envelope.txt, which another implementation made.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/envelope.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block := range strings.SplitSeq(string(data), "\n\n") {
		v := map[string]string{}
		for line := range strings.Lines(block) {
			if k, val, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(line, "#") {
				v[k] = strings.TrimSpace(val)
			}
		}
		if v["name"] == "" {
			continue
		}
		n++
		unhex := func(k string) []byte {
			b, err := hex.DecodeString(v[k])
			if err != nil {
				t.Fatalf("%s: %s: %v", v["name"], k, err)
			}
			return b
		}
		t.Run(v["name"], func(t *testing.T) {
			r := NewRing(secret.Random(32))
			version, err := strconv.ParseUint(v["version"], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			k := Key{Tenant: v["tenant"], ID: ID(unhex("id")), Class: Encryption, Primary: uint32(version)}
			if v["kind"] == "mac" {
				k.Class = Access
			}
			k.Versions = []Version{{N: k.Primary, Wrapped: r.Wrap(k.Tenant, k.ID, versionLabel(k.Class, k.Primary), secret.New(unhex("material")))}}
			o := open(t, r, k)
			if v["kind"] == "mac" {
				err = o.VerifyMAC(unhex("blob"), unhex("message"), unhex("context"))
				if again, _ := o.MAC(unhex("message"), unhex("context")); err == nil && !bytes.Equal(again, unhex("blob")) {
					t.Errorf("our own MAC is %x", again)
				}
			} else {
				var got []byte
				got, err = o.Decrypt(unhex("blob"), unhex("context"))
				if err == nil && !bytes.Equal(got, unhex("message")) {
					t.Errorf("got %x", got)
				}
			}
			if (err == nil) != (v["expect"] == "opened") {
				t.Errorf("got %v, want %s", err, v["expect"])
			}
		})
	}
	if n < 10 {
		t.Errorf("only %d vectors", n)
	}
}

// TestRotationKeepsThree: what the primary version sealed opens for three
// rotations, and no longer.
func TestRotationKeepsThree(t *testing.T) {
	r := NewRing(secret.Random(32))
	k := newKey(t, r, Encryption)
	first, err := open(t, r, k).Encrypt([]byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range Historic {
		var dropped []uint32
		if k, dropped, err = r.Rotate(k, birth, nil); err != nil || dropped != nil {
			t.Fatalf("rotation %d: dropped %v, %v", i+1, dropped, err)
		}
		if got, err := open(t, r, k).Decrypt(first, nil); err != nil || string(got) != "old" {
			t.Fatalf("after rotation %d: %v", i+1, err)
		}
	}
	if _, _, err := r.Rotate(k, birth, func(v uint32) bool { return v == 1 }); !errors.Is(err, ErrVersionInUse) {
		t.Errorf("dropping a version in use: %v", err)
	}
	k, dropped, err := r.Rotate(k, birth, func(v uint32) bool { return v != 1 })
	if err != nil || len(dropped) != 1 || dropped[0] != 1 {
		t.Fatalf("dropped %v, %v; want version 1", dropped, err)
	}
	if _, err := open(t, r, k).Decrypt(first, nil); !errors.Is(err, ErrNoVersion) {
		t.Errorf("opening with a dropped version: %v", err)
	}
	if k.Primary != 5 || k.Last != 5 || len(k.Versions) != 1+Historic {
		t.Errorf("primary %d, last %d, %d versions", k.Primary, k.Last, len(k.Versions))
	}
}

func TestRollBack(t *testing.T) {
	r := NewRing(secret.Random(32))
	k := newKey(t, r, Encryption)
	k, _, _ = r.Rotate(k, birth, nil)
	newer, err := open(t, r, k).Encrypt([]byte("new"), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err = RollBack(k, 1, birth)
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, r, k)
	if _, err := o.Decrypt(newer, nil); err != nil {
		t.Errorf("what the newer version sealed is lost: %v", err)
	}
	sealed, _ := o.Encrypt(nil, nil)
	if h, _ := ParseHeader(sealed); h.Version != 1 {
		t.Errorf("sealed with version %d after rolling back to 1", h.Version)
	}
	if k, _, _ = r.Rotate(k, birth, nil); k.Primary != 3 {
		t.Errorf("the next version is %d, want 3: numbers are not reused", k.Primary)
	}
	if _, err := RollBack(k, 9, birth); !errors.Is(err, ErrNoVersion) {
		t.Errorf("rolling back to nothing: %v", err)
	}
}

func TestDue(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		class Class
		after time.Duration
		due   bool
	}{
		{Encryption, 89 * day, false}, {Encryption, 90 * day, true},
		{Identity, 179 * day, false}, {Identity, 180 * day, true},
		{Access, 10000 * day, false},
	} {
		k := Key{Class: tt.class, Policy: DefaultPolicy(tt.class), Since: birth}
		if got := k.Due(birth.Add(tt.after)); (got != "") != tt.due {
			t.Errorf("%s after %s: %q", tt.class, tt.after, got)
		}
	}
}

func TestIdentitySigns(t *testing.T) {
	r := NewRing(secret.Random(32))
	k := newKey(t, r, Identity)
	s, err := open(t, r, k).Signer(0)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384([]byte("to sign"))
	sig, err := s.Sign(rand.Reader, sum[:], crypto.SHA384)
	if err != nil || !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), sum[:], sig) {
		t.Errorf("the signature does not verify: %v", err)
	}
}

// TestClassesDoNotMix: each class refuses the work of the others.
func TestClassesDoNotMix(t *testing.T) {
	r := NewRing(secret.Random(32))
	for _, c := range []Class{Encryption, Identity, Access} {
		o := open(t, r, newKey(t, r, c))
		_, e1 := o.Encrypt(nil, nil)
		_, e2 := o.Decrypt(nil, nil)
		_, e3 := o.Signer(0)
		_, e4 := o.MAC(nil, nil)
		e5 := o.VerifyMAC(nil, nil, nil)
		for i, tt := range []struct {
			err  error
			mine Class
		}{{e1, Encryption}, {e2, Encryption}, {e3, Identity}, {e4, Access}, {e5, Access}} {
			if errors.Is(tt.err, ErrClass) == (c == tt.mine) {
				t.Errorf("operation %d with %s: %v", i+1, c, tt.err)
			}
		}
	}
}

// TestStoredKeyIsBound: a stored version moved to another key, tenant, class or
// number does not open, and neither does it under another root key.
func TestStoredKeyIsBound(t *testing.T) {
	r := NewRing(secret.Random(32))
	k := newKey(t, r, Encryption)
	for name, change := range map[string]func(*Key){
		"tenant":  func(k *Key) { k.Tenant = "other" },
		"id":      func(k *Key) { k.ID[0] ^= 1 },
		"class":   func(k *Key) { k.Class = Access },
		"version": func(k *Key) { k.Versions[0].N = 2; k.Primary = 2 },
	} {
		moved := k
		moved.Versions = append([]Version(nil), k.Versions...)
		change(&moved)
		if _, err := r.Open(moved); !errors.Is(err, ErrOpen) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if _, err := NewRing(secret.Random(32)).Open(k); !errors.Is(err, ErrOpen) {
		t.Errorf("under another root key: %v", err)
	}
}

func TestLimits(t *testing.T) {
	r := NewRing(secret.Random(32))
	o := open(t, r, newKey(t, r, Encryption))
	for _, tt := range []struct {
		name             string
		message, context int
		ok               bool
	}{
		{"most of both", MaxMessage, MaxContext, true},
		{"message too long", MaxMessage + 1, 0, false},
		{"context too long", 0, MaxContext + 1, false},
	} {
		if _, err := o.Encrypt(make([]byte, tt.message), make([]byte, tt.context)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	r := NewRing(secret.New(bytes.Repeat([]byte{9}, 32)))
	k, err := r.Create("default", "k", Encryption, Policy{}, birth)
	if err != nil {
		f.Fatal(err)
	}
	o, err := r.Open(k)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := o.Encrypt([]byte("x"), []byte("c"))
	f.Add(good)
	f.Add(good[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHeader(b); err == nil && !bytes.Equal(header(h.magic, 1, h.Key, h.Version), b[:headerSize]) {
			t.Fatal("accepted a header that is written differently")
		}
		if _, err := o.Decrypt(b, []byte("c")); err == nil && !bytes.Equal(b, good) {
			t.Fatal("a forgery opened")
		}
	})
}
