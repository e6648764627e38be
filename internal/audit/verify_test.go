package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// frames cuts a segment into its frames, whole.
func frames(t *testing.T, data []byte) [][]byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(data, []byte(segmentMagic))
	if !ok {
		t.Fatal("no segment")
	}
	var out [][]byte
	for len(rest) > 0 {
		_, _, next, err := cutFrame(rest)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rest[:len(rest)-len(next)])
		rest = next
	}
	return out
}

// TestTampering does to a log what somebody with the disk, but not the key,
// could do, and wants each deed named. Frames alternate: a record, its
// checkpoint.
func TestTampering(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(f [][]byte) [][]byte
		keep    bool // leave the checkpoint that lies beside the segments
		outside bool // give Verify one that was kept elsewhere
		want    string
		opens   bool // whether the service may open it all the same
	}{
		{"nothing", func(f [][]byte) [][]byte { return f }, true, true, "", true},
		{"one letter of a record", func(f [][]byte) [][]byte {
			f[4] = bytes.Replace(f[4], []byte("vm2"), []byte("vm3"), 1)
			return f
		}, false, false, "AUDIT_CHANGED records 2 to 2", false},
		{"one letter of a record, checkpoints beside it and elsewhere", func(f [][]byte) [][]byte {
			f[4] = bytes.Replace(f[4], []byte("vm2"), []byte("vm3"), 1)
			return f
		}, true, true, "AUDIT_CHANGED records 2 to 2", false},
		{"one letter of the last record", func(f [][]byte) [][]byte {
			f[18] = bytes.Replace(f[18], []byte("vm9"), []byte("vm8"), 1)
			return f
		}, false, false, "AUDIT_CHANGED records 9 to 9", false},
		{"a record that no longer is one", func(f [][]byte) [][]byte { f[4][10] = '!'; return f }, false, false, "AUDIT_CHANGED record 2", false},
		{"two records changed places", func(f [][]byte) [][]byte { f[4], f[6] = f[6], f[4]; return f }, false, false, "AUDIT_ORDER record 2", false},
		{"a record dropped", func(f [][]byte) [][]byte { return append(f[:4], f[5:]...) }, false, false, "AUDIT_ORDER", false},
		{"a record and its checkpoint dropped", func(f [][]byte) [][]byte { return append(f[:4], f[6:]...) }, false, false, "AUDIT_ORDER record 2", false},
		{"a record doubled", func(f [][]byte) [][]byte { return append(f[:5], append([][]byte{f[4]}, f[5:]...)...) }, false, false, "AUDIT_ORDER record 3", false},
		{"a checkpoint dropped", func(f [][]byte) [][]byte { return append(f[:5], f[6:]...) }, false, false, "", true},
		{"a length damaged", func(f [][]byte) [][]byte { f[4][1] = 0xff; return f }, false, false, "AUDIT_UNREADABLE", false},
		{"the tail cut, checkpoint beside it", func(f [][]byte) [][]byte { return f[:16] }, true, false, "AUDIT_CUT", false},
		{"the tail cut, checkpoint kept elsewhere", func(f [][]byte) [][]byte { return f[:16] }, false, true, "AUDIT_CUT outside", true},
		{"everything cut, checkpoint kept elsewhere", func(f [][]byte) [][]byte { return nil }, false, true, "AUDIT_CUT outside", true},
		{"an unfinished write", func(f [][]byte) [][]byte { return append(f, []byte("R\x00\x00")) }, true, true, "AUDIT_UNFINISHED", true},
		{"a write of which the middle was lost", func(f [][]byte) [][]byte {
			f[18] = append(f[18][:8:8], make([]byte, len(f[18])-8)...)
			f[18] = append(f[18], make([]byte, 1024)...)
			return f
		}, false, false, "AUDIT_UNFINISHED", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, Options{})
			write(t, l, 0, 10)
			kept := l.Checkpoint()
			l.Close()
			if !tt.keep {
				os.Remove(filepath.Join(dir, "checkpoint"))
			}
			path := filepath.Join(dir, segmentName(0))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			out := append([]byte(segmentMagic), bytes.Join(tt.change(frames(t, data)), nil)...)
			if err := os.WriteFile(path, out, 0o600); err != nil {
				t.Fatal(err)
			}
			var outside []Outside
			if tt.outside {
				outside = []Outside{{"outside", kept}}
			}
			r, err := Verify(dir, signer(t).VerifierKey(), outside, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				got = append(got, f.Code+" "+f.Subject+" ("+f.Evidence+")")
			}
			if all := strings.Join(got, "\n"); tt.want == "" && all != "" || !strings.Contains(all, tt.want) {
				t.Errorf("found:\n%s\nwant %q", all, tt.want)
			} else if strings.Contains(all, "AUDIT_FORKED") {
				t.Errorf("nobody had the signing key, and yet:\n%s", all)
			}
			l, err = Open(dir, signer(t), Options{})
			if (err == nil) != tt.opens {
				t.Errorf("opening: %v", err)
			}
			if err == nil {
				l.Close()
			}
		})
	}
}

// TestFork: somebody with the signing key writes another history. Inside, it
// holds; a checkpoint kept elsewhere gives it away.
func TestFork(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	l := open(t, dir, Options{})
	write(t, l, 0, 3)
	kept := l.Checkpoint()
	l.Close()
	l = open(t, other, Options{})
	write(t, l, 5, 5)
	l.Close()
	if r, err := Verify(other, signer(t).VerifierKey(), nil, nil); err != nil || len(r.Findings) > 0 {
		t.Errorf("the other history alone: %+v, %v", r.Findings, err)
	}
	r, err := Verify(other, signer(t).VerifierKey(), []Outside{{"kept", kept}}, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Code != "AUDIT_FORKED" {
		t.Errorf("with the checkpoint: %+v, %v", r.Findings, err)
	}
	r, err = Verify(dir, signer(t).VerifierKey(), []Outside{{"junk", []byte("junk")}}, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Code != "AUDIT_CHECKPOINT_BAD" {
		t.Errorf("with junk: %+v, %v", r.Findings, err)
	}
}

// TestManyFaultsShortList: a log torn apart gives a list that a person can read.
func TestManyFaultsShortList(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	write(t, l, 0, 200)
	l.Close()
	path := filepath.Join(dir, segmentName(0))
	data, _ := os.ReadFile(path)
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(`"n":`), []byte(`"m":`)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(dir, signer(t).VerifierKey(), nil, nil)
	if err != nil || len(r.Findings) != maxFindings {
		t.Errorf("%d findings, %v", len(r.Findings), err)
	}
}

func ExampleVerify() {
	_, err := Verify("no such directory", "", nil, nil)
	fmt.Println(err)
	// Output: verifying the audit log: open no such directory: no such file or directory
}
