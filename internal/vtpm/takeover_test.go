package vtpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// foreignDir is a directory as swtpm left it (testdata/swtpm).
func foreignDir(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	files, err := os.ReadDir(filepath.Join("testdata/swtpm", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("testdata/swtpm", name, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func foreignFiles(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{foreignFile, foreignVolatile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			all.Write(b)
		}
		all.WriteByte('|')
	}
	return all.String()
}

// TestTakeOver: a directory of swtpm, one that was suspended, and ones that were
// encrypted start, resume, and stay as they are.
func TestTakeOver(t *testing.T) {
	for _, tc := range []struct {
		name    string
		key     Key
		resumed bool
	}{
		{"clear", Key{}, true},
		{"aes128", Key{Secret: secret.New(bytes.Repeat([]byte{7}, 16))}, false},
		{"aes256", Key{Secret: secret.New(bytes.Repeat([]byte{7}, 32))}, false},
		{"passphrase", Key{Secret: secret.Copy([]byte("correct horse")), Passphrase: true}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := foreignDir(t, tc.name)
			before := foreignFiles(t, dir)
			log := new(bytes.Buffer)
			cfg := Config{Dir: dir, Key: tc.key, TakeOver: true, Log: slog.New(slog.NewTextHandler(log, nil))}
			i, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(log.String(), "how=resumed"); got != tc.resumed {
				t.Errorf("resumed %v:\n%s", got, log)
			}
			if !strings.Contains(log.String(), "TPM of swtpm taken over") {
				t.Errorf("nothing in the log:\n%s", log)
			}
			id := i.ID()
			var record TakeOver
			b, err := os.ReadFile(filepath.Join(dir, takeoverFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &record); err != nil || record.ID != id.String() || record.From != foreignFile {
				t.Errorf("record %+v: %v", record, err)
			}
			// TPM2_SelfTest makes no difference; the state is ours from now on.
			i.Close()
			if foreignFiles(t, dir) != before {
				t.Error("swtpm's files have changed")
			}
			log.Reset()
			if i, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
				t.Fatal(err)
			}
			if i.ID() != id || strings.Contains(log.String(), "taken over;") {
				t.Errorf("taken over twice:\n%s", log)
			}
			i.Close()
		})
	}
}

// TestTakeOverCutShort: at whatever write a take-over ends, the next one
// completes it, with the same id.
func TestTakeOverCutShort(t *testing.T) {
	whole := foreignDir(t, "clear")
	if _, err := Import(Config{Dir: whole}, false); err != nil {
		t.Fatal(err)
	}
	// A state that has gone afterwards is not replaced by swtpm's old one.
	gone := t.TempDir()
	if err := os.CopyFS(gone, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(gone, permanentFile))
	if _, err := Open(Config{Dir: gone, TakeOver: true}); err == nil || !strings.Contains(err.Error(), "STATE_ROLLED_BACK") {
		t.Errorf("a state that has gone: %v", err)
	}
	// Nor is one of which a later generation is known.
	if _, err := Open(Config{Dir: foreignDir(t, "clear"), TakeOver: true, MinGeneration: 7}); err == nil {
		t.Error("swtpm's state was taken over in place of generation 7")
	}
	record := filepath.Join(whole, takeoverFile)
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, bytes.Replace(b, []byte(`"done": true`), []byte(`"done": false`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	written := []string{takeoverFile, volatileFile, permanentFile} // in this order
	for n := range len(written) {
		dir := foreignDir(t, "clear")
		for _, name := range written[:n] {
			b, err := os.ReadFile(filepath.Join(whole, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, written[n]+tempSuffix), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Import(Config{Dir: dir}, false)
		if err != nil {
			t.Errorf("cut short before %s: %v", written[n], err)
			continue
		}
		var want TakeOver
		b, _ := os.ReadFile(filepath.Join(whole, takeoverFile))
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if n > 0 && got.ID != want.ID {
			t.Errorf("cut short before %s: another id", written[n])
		}
		i, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
			t.Errorf("cut short before %s: %v", written[n], err)
		}
		i.Close()
	}
}

// TestRunBySwtpmSince: a TPM that swtpm ran again after the take-over is two TPMs,
// and a person chooses; each way out that is offered leads on.
func TestRunBySwtpmSince(t *testing.T) {
	forked := func() string {
		dir := foreignDir(t, "clear")
		if _, err := Import(Config{Dir: dir}, false); err != nil {
			t.Fatal(err)
		}
		record := filepath.Join(dir, takeoverFile)
		b, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(filepath.Join(dir, foreignFile))
		if err != nil {
			t.Fatal(err)
		}
		was := sha256.Sum256(append(file, "before swtpm ran again"...))
		now := sha256.Sum256(file)
		b = bytes.Replace(b, []byte(hex.EncodeToString(now[:])), []byte(hex.EncodeToString(was[:])), 1)
		if err := os.WriteFile(record, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir := forked()
	_, imported := Import(Config{Dir: dir}, false)
	_, opened := Open(Config{Dir: dir, TakeOver: true})
	for _, err := range []error{imported, opened} {
		var r *Refusal
		if !errors.As(err, &r) || r.Finding.Code != "STATE_RUN_BY_SWTPM" {
			t.Fatalf("want STATE_RUN_BY_SWTPM, got %v", err)
		}
	}
	id := func(dir string) ID {
		t.Helper()
		i, err := Open(Config{Dir: dir, TakeOver: true})
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		return i.ID()
	}
	sh := func(format string) {
		t.Helper()
		if out, err := exec.Command("sh", "-c", strings.ReplaceAll(format, "{0}", dir)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sh("mv {0}/tpm2-00.permall {0}/swtpm.old")
	kept := id(dir)
	dir = forked()
	sh("mkdir {0}/before && mv {0}/vtpm.* {0}/before/")
	if id(dir) == kept {
		t.Error("the TPM of swtpm did not get a life of its own")
	}
}

// TestNewBesideTPM12: no TPM 2.0 is begun in the directory of a TPM 1.2.
func TestNewBesideTPM12(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, foreignTPM12), []byte("a TPM 1.2"), 0o600); err != nil {
		t.Fatal(err)
	}
	var r *Refusal
	if _, err := Open(Config{Dir: dir, TakeOver: true}); !errors.As(err, &r) || r.Finding.Code != "STATE_OF_TPM12" {
		t.Errorf("want STATE_OF_TPM12, got %v", err)
	}
}

// TestBlobsOfSwtpm: what swtpm hands out is taken, in clear and under a migration key.
func TestBlobsOfSwtpm(t *testing.T) {
	source := foreignDir(t, "clear")
	blob := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	i, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.SetBlob(swtpm.Volatile, blob(foreignVolatile), false); err == nil {
		t.Error("a volatile state was taken before its permanent state")
	}
	if err := i.SetBlob(swtpm.Permanent, blob(foreignVolatile), false); err == nil {
		t.Error("a volatile state was taken as a permanent one")
	}
	for k, name := range map[swtpm.BlobKind]string{swtpm.Permanent: foreignFile} {
		if err := i.SetBlob(k, blob(name), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.SetBlob(swtpm.Volatile, blob(foreignVolatile), false); err != nil {
		t.Fatal(err)
	}
	if err := i.PowerOn(swtpm.Peer{}, true); err != nil {
		t.Fatal(err)
	}
	if i.ID() == (ID{}) || i.Generation() == 0 {
		t.Error("it has no id")
	}
	// Under a migration key nothing in clear is taken.
	j, err := Open(Config{Dir: t.TempDir(), MigrationKey: Key{Secret: secret.New(make([]byte, 32))}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.SetBlob(swtpm.Permanent, blob(foreignFile), false); err == nil || !strings.Contains(err.Error(), "STATE_NOT_SEALED") {
		t.Errorf("a blob in clear: %v", err)
	}
}
