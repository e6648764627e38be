package vtpm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

func TestStateSurvivesEveryPowerCycle(t *testing.T) {
	for name, key := range map[string]Key{"plain": {}, "sealed": {Secret: secret.New(bytes.Repeat([]byte{9}, 32))}} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir(), Key: key, NoAutoShutdown: true}
			i, log := openTest(t, cfg)
			if warned := strings.Contains(log.String(), "kept in clear"); warned != key.none() {
				t.Errorf("warned of plain state: %v", warned)
			}
			on(t, i)
			run(i, 1)
			run(i, 1)
			on(t, i) // a power cycle: RAM is gone
			if _, nv, ram := run(i, 1); nv != 3 || ram != 1 {
				t.Errorf("after a power cycle: nv %d, ram %d; want 3, 1", nv, ram)
			}
			id := i.ID()
			if err := i.Close(); err != nil {
				t.Fatal(err)
			}
			i, _ = openTest(t, cfg)
			on(t, i)
			if rc, nv, _ := run(i, 1); rc != 0 || nv != 4 || i.ID() != id {
				t.Errorf("another process: rc %x, nv %d, id %s (was %s)", rc, nv, i.ID(), id)
			}
			info, err := os.Stat(filepath.Join(cfg.Dir, permanentFile))
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("state file: %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestWhatIsOffAnswersFailure(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir()})
	if rc, _, _ := run(i, 1); rc != 0x101 {
		t.Errorf("got %x", rc)
	}
	if i.Running() || i.Established() || i.ResetEstablished(4) {
		t.Error("a TPM that is off runs")
	}
	i.HashStart()
	i.Cancel()
	if _, _, err := i.Blob(swtpm.Permanent, true); err == nil {
		t.Error("a blob from a TPM that is off")
	}
}

// TestRefusals changes a good directory in every way that must be noticed, and
// checks that nothing in it is touched by the refusal.
func TestRefusals(t *testing.T) {
	key := Key{Secret: secret.New(bytes.Repeat([]byte{9}, 32))}
	file := func(dir string) string { return filepath.Join(dir, permanentFile) }
	change := func(name string, f func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), f(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*testing.T, string)
		cfg    Config
		code   string
	}{
		{"cut", change(permanentFile, func(b []byte) []byte { return b[:len(b)-1] }), Config{Key: key}, "STATE_DAMAGED"},
		{"empty", change(permanentFile, func(b []byte) []byte { return nil }), Config{Key: key}, "STATE_DAMAGED"},
		{"a byte longer", change(permanentFile, func(b []byte) []byte { return append(b, 0) }), Config{Key: key}, "STATE_DAMAGED"},
		{"a flipped bit in the state", change(permanentFile, func(b []byte) []byte { b[len(b)-20] ^= 1; return b }), Config{Key: key}, "STATE_DAMAGED"},
		{"a flipped bit in the generation", change(permanentFile, func(b []byte) []byte { b[39] ^= 1; return b }), Config{Key: key}, "STATE_WRONG_KEY"},
		{"not ours", change(permanentFile, func([]byte) []byte { return bytes.Repeat([]byte("swtpm"), 100) }), Config{Key: key}, "STATE_DAMAGED"},
		{"a newer format", change(permanentFile, func(b []byte) []byte { b[9] = 2; return b }), Config{Key: key}, "STATE_NEWER"},
		{"another key", nil, Config{Key: Key{Secret: secret.New(bytes.Repeat([]byte{8}, 32))}}, "STATE_WRONG_KEY"},
		{"a passphrase for a key", nil, Config{Key: Key{Secret: key.Secret, Passphrase: true}}, "STATE_WRONG_KEY"},
		{"no key", nil, Config{}, "STATE_KEY_MISSING"},
		{"another instance", nil, Config{Key: key, ID: testID(3)}, "STATE_OTHER_INSTANCE"},
		{"an old generation", nil, Config{Key: key, MinGeneration: 1000}, "STATE_ROLLED_BACK"},
		{"the permanent state gone, the volatile there", func(t *testing.T, dir string) {
			if err := os.Rename(file(dir), filepath.Join(dir, volatileFile)); err != nil {
				t.Fatal(err)
			}
		}, Config{Key: key}, "STATE_INCOMPLETE"},
		{"swtpm's state", func(t *testing.T, dir string) {
			if err := os.Rename(file(dir), filepath.Join(dir, foreignFile)); err != nil {
				t.Fatal(err)
			}
		}, Config{Key: key}, "STATE_OF_SWTPM"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			i, _ := openTest(t, Config{Dir: dir, Key: key})
			on(t, i)
			run(i, 1)
			i.Close()
			if tc.change != nil {
				tc.change(t, dir)
			}
			before := snapshot(t, dir)
			tc.cfg.Dir = dir
			_, _, err := tryOpen(tc.cfg)
			wantRefusal(t, err, tc.code)
			if after := snapshot(t, dir); after != before {
				t.Errorf("the refusal changed the directory:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

// snapshot lists a directory with contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var s strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&s, "%s %x\n", e.Name(), b)
	}
	return s.String()
}

func TestPlainStateIsRefusedWhereAKeyIsGiven(t *testing.T) {
	dir := t.TempDir()
	i, _ := openTest(t, Config{Dir: dir})
	on(t, i)
	i.Close()
	_, _, err := tryOpen(Config{Dir: dir, Key: Key{Secret: secret.New(make([]byte, 32))}})
	wantRefusal(t, err, "STATE_NOT_SEALED")
}

func TestASecondUserIsRefused(t *testing.T) {
	dir := t.TempDir()
	i, _ := openTest(t, Config{Dir: dir})
	_, _, err := tryOpen(Config{Dir: dir})
	wantRefusal(t, err, "STATE_LOCKED")
	i.Close()
	i, _, err = tryOpen(Config{Dir: dir})
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	i.Close()
}

func TestStateReplacedWhileRunning(t *testing.T) {
	dir := t.TempDir()
	i, _ := openTest(t, Config{Dir: dir, NoAutoShutdown: true})
	on(t, i)
	old, err := os.ReadFile(filepath.Join(dir, permanentFile))
	if err != nil {
		t.Fatal(err)
	}
	run(i, 1)
	if err := os.WriteFile(filepath.Join(dir, permanentFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, i.PowerOn(swtpm.Peer{}, false), "STATE_ROLLED_BACK")
	if err := os.Remove(filepath.Join(dir, permanentFile)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, i.PowerOn(swtpm.Peer{}, false), "STATE_ROLLED_BACK")
	if i.Running() {
		t.Error("it runs all the same")
	}
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{lockFile, permanentFile} {
		if err := os.Symlink(elsewhere, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tryOpen(Config{Dir: dir}); err == nil {
			t.Errorf("%s is a symbolic link, and was used", name)
		}
		os.Remove(filepath.Join(dir, name))
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, permanentFile+tempSuffix)); err != nil {
		t.Fatal(err)
	}
	i, _ := openTest(t, Config{Dir: dir})
	on(t, i)
	if b, _ := os.ReadFile(elsewhere); string(b) != "precious" {
		t.Errorf("the file behind a link was written: %q", b)
	}
}

func TestAutoShutdown(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir()})
	on(t, i)
	run(i, 1)
	i.PowerOff()
	on(t, i)
	if _, nv, _ := run(i, 0); nv != 2 {
		t.Errorf("a guest switched off hard: counter %d, want 2 (TPM2_Shutdown was sent)", nv)
	}
	run(i, 0x145)
	i.PowerOff()
	on(t, i)
	if _, nv, _ := run(i, 0); nv != 3 {
		t.Errorf("a guest that shut down: counter %d, want 3 (no second TPM2_Shutdown)", nv)
	}
}

func TestPowerLossIsLogged(t *testing.T) {
	for boot, want := range map[string]string{bootID(): "the process ended", "another": "the host was restarted"} {
		dir := t.TempDir()
		i, _ := openTest(t, Config{Dir: dir})
		on(t, i)
		i.Close()
		mark := fmt.Sprintf(`{"boot":%q,"pid":1}`, boot)
		if err := os.WriteFile(filepath.Join(dir, runFile), []byte(mark), 0o600); err != nil {
			t.Fatal(err)
		}
		i, log := openTest(t, Config{Dir: dir})
		on(t, i)
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %q in:\n%s", want, log)
		}
		i.Close()
		i, log = openTest(t, Config{Dir: dir})
		on(t, i)
		if strings.Contains(log.String(), "lost power") {
			t.Errorf("an orderly end was taken for a power loss:\n%s", log)
		}
	}
}

// TestDiskFull lets writing fail: the command fails with TPM_RC_NV_UNAVAILABLE,
// others go on, and one log line says so.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	i, log := openTest(t, Config{Dir: dir, NoAutoShutdown: true})
	on(t, i)
	run(i, 1)
	// A directory in the way of the temporary file stands for a full disk,
	// which needs root; test/neighbours has a real one.
	if err := os.MkdirAll(filepath.Join(dir, permanentFile+tempSuffix, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if rc, nv, _ := run(i, 1); rc != 0x923 || nv != 1 {
			t.Errorf("rc %x, nv %d; want 923, 1", rc, nv)
		}
	}
	if rc, _, ram := run(i, 2); rc != 0 || ram != 2 {
		t.Errorf("a command that writes nothing: rc %x, ram %d", rc, ram)
	}
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("%d log lines about it, want 1", n)
	}
	if err := os.RemoveAll(filepath.Join(dir, permanentFile+tempSuffix)); err != nil {
		t.Fatal(err)
	}
	if rc, nv, _ := run(i, 1); rc != 0 || nv != 2 {
		t.Errorf("with room again: rc %x, nv %d", rc, nv)
	}
	if !strings.Contains(log.String(), "written again") {
		t.Error("its end was not logged")
	}
}

func TestConcurrentUse(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir()})
	on(t, i)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				run(i, 1)
				i.Cancel()
				i.Blob(swtpm.Volatile, true)
				i.Generation()
			}
		})
		wg.Go(func() {
			for range 5 {
				i.PowerOn(swtpm.Peer{}, false)
				i.PowerOff()
				i.SetBlob(swtpm.Permanent, nil, false)
			}
		})
	}
	wg.Wait()
	on(t, i)
}

// A target that did not run may give the vTPM back; once it has run, what the
// source holds is an old copy, and must not go on.
func TestSourceDoesNotLiveAgain(t *testing.T) {
	for name, runs := range map[string]bool{"the target did not run": false, "the target ran": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			source, _ := openTest(t, Config{Dir: dir, ReleaseLock: true})
			target, _ := openTest(t, Config{Dir: dir, DeferLock: true})
			on(t, source)
			run(source, 1)
			for _, k := range []swtpm.BlobKind{swtpm.Permanent, swtpm.Volatile, swtpm.SaveState} {
				if b, sealed, err := source.Blob(k, true); err == nil {
					if err := target.SetBlob(k, b, sealed); err != nil {
						t.Fatal(err)
					}
				}
			}
			on(t, target)
			if runs {
				run(target, 1)
			}
			target.Close()
			if !runs {
				if rc, nv, ram := run(source, 1); rc != 0 || nv != 2 || ram != 2 {
					t.Errorf("the source: %x, nv %d, ram %d", rc, nv, ram)
				}
				return
			}
			if rc, _, _ := run(source, 1); rc != 0x101 {
				t.Errorf("the source answers with its old state: %x", rc)
			}
			wantRefusal(t, source.LockStorage(0), "STATE_ROLLED_BACK")
			again, _ := openTest(t, Config{Dir: dir})
			on(t, again)
			if _, nv, _ := run(again, 0); nv != 3 {
				t.Errorf("nv %d, want the target's 2 and its TPM2_Shutdown", nv)
			}
		})
	}
}

func TestCatalogSpeaksBothLanguages(t *testing.T) {
	for _, e := range Catalog {
		for _, text := range []finding.Text{e.Meaning, e.Remedy} {
			if text.EN == "" || text.ZH == "" {
				t.Errorf("%s lacks a language", e.Code)
			}
		}
		doc, err := os.ReadFile("../../docs/findings/vtpm.md")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(doc, []byte("## "+e.Code+"\n")) {
			t.Errorf("docs/findings/vtpm.md has no entry for %s", e.Code)
		}
	}
}
