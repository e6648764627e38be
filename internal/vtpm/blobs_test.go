package vtpm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

func TestSuspendAndResume(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Key: Key{Secret: secret.New(make([]byte, 16))}}
	i, _ := openTest(t, cfg)
	on(t, i)
	run(i, 1)
	run(i, 2)
	if err := i.StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	generation := i.Generation()
	i.Close()
	i, _ = openTest(t, cfg)
	if i.Generation() != generation {
		t.Error("switching off wrote over the state that was kept")
	}
	if err := i.PowerOn(swtpm.Peer{}, true); err != nil {
		t.Fatal(err)
	}
	if _, nv, ram := run(i, 2); nv != 1 || ram != 3 {
		t.Errorf("resumed: nv %d, ram %d; want 1, 3", nv, ram)
	}
	on(t, i) // the volatile state was used up
	if _, _, ram := run(i, 2); ram != 1 {
		t.Errorf("ram %d after a power cycle, want 1", ram)
	}
}

func TestStaleVolatileState(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, volatileFile)
	i, _ := openTest(t, Config{Dir: dir})
	on(t, i)
	if err := i.StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	run(i, 1) // non-volatile state moves on, and takes the volatile file with it
	if _, err := os.Stat(file); err == nil {
		t.Error("volatile state that is out of date is still there")
	}
	on(t, i)
	if _, nv, ram := run(i, 2); nv == 0 || ram != 1 {
		t.Errorf("nv %d, ram %d after a power cycle", nv, ram)
	}
	// Somebody puts the old file back.
	if err := os.WriteFile(file, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, i.PowerOn(swtpm.Peer{}, false), "STATE_INCOMPLETE")
}

func TestMigration(t *testing.T) {
	migrationKey := Key{Secret: secret.New(bytes.Repeat([]byte{5}, 32))}
	for name, key := range map[string]Key{"in clear": {}, "under a migration key": migrationKey} {
		t.Run(name, func(t *testing.T) {
			source, _ := openTest(t, Config{Dir: t.TempDir(), MigrationKey: key})
			target := Config{Dir: t.TempDir(), MigrationKey: key}
			if !key.none() { // sealed at rest under a key of its own
				target.Key = Key{Secret: secret.New(make([]byte, 32))}
			}
			testMigration(t, source, target, key.none())
		})
	}
	t.Run("under the state key", func(t *testing.T) {
		key := Key{Secret: secret.New(bytes.Repeat([]byte{6}, 32))}
		source, _ := openTest(t, Config{Dir: t.TempDir(), Key: key})
		testMigration(t, source, Config{Dir: t.TempDir(), Key: key}, false)
	})
}

// TestMigrationKeys: of a state that does not open, QEMU prints why.
func TestMigrationKeys(t *testing.T) {
	key := func(b byte) Key { return Key{Secret: secret.New(bytes.Repeat([]byte{b}, 32))} }
	source, _ := openTest(t, Config{Dir: t.TempDir(), MigrationKey: key(5)})
	on(t, source)
	b, _, err := source.Blob(swtpm.Permanent, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		key  Key
		code string
		want swtpm.Result
	}{
		{Key{}, "STATE_KEY_MISSING", swtpm.KeyNotFound},
		{key(6), "STATE_WRONG_KEY", swtpm.DecryptError},
	} {
		target, _ := openTest(t, Config{Dir: t.TempDir(), MigrationKey: tc.key})
		err := target.SetBlob(swtpm.Permanent, b, true)
		wantRefusal(t, err, tc.code)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.code, err)
		}
	}
}

// testMigration moves a TPM that is new.
func testMigration(t *testing.T, source *Instance, to Config, inClear bool) {
	t.Helper()
	target, _ := openTest(t, to)
	on(t, source)
	run(source, 1)
	run(source, 2)
	generation := source.Generation()
	for _, k := range []swtpm.BlobKind{swtpm.Permanent, swtpm.Volatile} {
		b, sealed, err := source.Blob(k, true)
		if err != nil || sealed == inClear {
			t.Fatalf("%v: sealed %v, %v", k, sealed, err)
		}
		if err := target.SetBlob(k, b, sealed); err != nil {
			t.Fatal(err)
		}
		clear(b) // the caller's buffer is used again
	}
	if _, _, err := source.Blob(swtpm.SaveState, true); err != swtpm.NonFatal {
		t.Errorf("savestate: %v", err)
	}
	if err := target.PowerOn(swtpm.Peer{}, true); err != nil {
		t.Fatal(err)
	}
	if target.ID() != source.ID() || target.Generation() <= generation {
		t.Errorf("target: id %s, generation %d", target.ID(), target.Generation())
	}
	if _, nv, ram := run(target, 2); nv != 1 || ram != 3 {
		t.Errorf("target: nv %d, ram %d; want 1, 3", nv, ram)
	}
	source.Close()
	if source.Generation() != generation {
		t.Error("the source wrote after it had handed its state out")
	}
}

func TestBlobsThatAreRefused(t *testing.T) {
	source, _ := openTest(t, Config{Dir: t.TempDir()})
	on(t, source)
	permanentBlob, _, err := source.Blob(swtpm.Permanent, true)
	if err != nil {
		t.Fatal(err)
	}
	run(source, 1)
	volatileBlob, _, err := source.Blob(swtpm.Volatile, true)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := openTest(t, Config{Dir: t.TempDir()})
	on(t, other)
	if err := other.SetBlob(swtpm.Permanent, permanentBlob, false); err != swtpm.BadOrdinal {
		t.Errorf("while on: %v", err)
	}
	other.PowerOff()
	before := snapshot(t, other.dir.path)
	wantRefusal(t, other.SetBlob(swtpm.Permanent, permanentBlob, false), "STATE_OTHER_INSTANCE")
	wantRefusal(t, other.SetBlob(swtpm.Permanent, permanentBlob[:10], false), "STATE_DAMAGED")
	wantRefusal(t, other.SetBlob(swtpm.Volatile, permanentBlob, false), "STATE_DAMAGED")
	if err := other.SetBlob(swtpm.SaveState, permanentBlob, false); err != swtpm.BadParameter {
		t.Errorf("savestate: %v", err)
	}
	if snapshot(t, other.dir.path) != before {
		t.Error("a refused blob changed the directory")
	}
	keyed, _ := openTest(t, Config{Dir: t.TempDir(), MigrationKey: Key{Secret: secret.New(make([]byte, 16))}})
	wantRefusal(t, keyed.SetBlob(swtpm.Permanent, permanentBlob, false), "STATE_NOT_SEALED")
	sealed, _ := openTest(t, Config{Dir: t.TempDir(), Key: Key{Secret: secret.New(make([]byte, 16))}})
	wantRefusal(t, sealed.SetBlob(swtpm.Permanent, permanentBlob, false), "STATE_NOT_SEALED")
	fresh, _ := openTest(t, Config{Dir: t.TempDir()})
	if err := fresh.SetBlob(swtpm.Permanent, permanentBlob, false); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, fresh.SetBlob(swtpm.Volatile, volatileBlob, false), "STATE_INCOMPLETE")
	newer, _ := openTest(t, Config{Dir: t.TempDir(), MinGeneration: 2})
	wantRefusal(t, newer.SetBlob(swtpm.Permanent, permanentBlob, false), "STATE_ROLLED_BACK")
}

// TestSnapshotAndBack is savevm and loadvm: an older state of the same vTPM
// comes back through the control channel, and the count goes on upwards.
func TestSnapshotAndBack(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir()})
	on(t, i)
	run(i, 1)
	p, _, err := i.Blob(swtpm.Permanent, true)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := i.Blob(swtpm.Volatile, true)
	if err != nil {
		t.Fatal(err)
	}
	run(i, 1)
	run(i, 1)
	generation := i.Generation()
	i.PowerOff()
	for k, b := range map[swtpm.BlobKind][]byte{swtpm.Permanent: p} {
		if err := i.SetBlob(k, b, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.SetBlob(swtpm.Volatile, v, false); err != nil {
		t.Fatal(err)
	}
	on(t, i)
	if _, nv, ram := run(i, 2); nv != 1 || ram != 2 {
		t.Errorf("nv %d, ram %d; want 1, 2", nv, ram)
	}
	if i.Generation() <= generation {
		t.Errorf("generation %d, was %d", i.Generation(), generation)
	}
}

func TestLockIsGivenToTheTarget(t *testing.T) {
	dir := t.TempDir() // shared storage
	source, _ := openTest(t, Config{Dir: dir, ReleaseLock: true})
	target, _ := openTest(t, Config{Dir: dir, DeferLock: true})
	on(t, source)
	run(source, 1)
	wantRefusal(t, target.PowerOn(swtpm.Peer{}, false), "STATE_LOCKED")
	for _, k := range []swtpm.BlobKind{swtpm.Permanent, swtpm.Volatile, swtpm.SaveState} {
		if b, sealed, err := source.Blob(k, true); err == nil {
			if err := target.SetBlob(k, b, sealed); err != nil {
				t.Fatal(err)
			}
		}
	}
	on(t, target)
	if _, nv, ram := run(target, 0); nv != 1 || ram != 1 {
		t.Errorf("target: nv %d, ram %d", nv, ram)
	}
	if rc, _, _ := run(source, 1); rc != 0x101 {
		t.Errorf("the source still answers: %x", rc)
	}
	wantRefusal(t, source.LockStorage(2), "STATE_LOCKED")
	target.Close()
	wantRefusal(t, source.LockStorage(2), "STATE_ROLLED_BACK") // it has run there
}

// TestABlobThatDoesNotStart passes every check of its file, and no TPM starts
// from it: the state in the directory stays.
func TestABlobThatDoesNotStart(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir(), NoAutoShutdown: true})
	on(t, i)
	run(i, 1)
	i.PowerOff()
	for name, blobs := range map[string]map[kind]string{
		"permanent": {permanent: "no counter"},
		"volatile":  {permanent: "8 octets", volatile: "no counter"},
	} {
		for _, k := range []kind{permanent, volatile} {
			state, ok := blobs[k]
			if !ok {
				continue
			}
			blob, err := join(k, plain, i.id, 1, []byte(state), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := i.SetBlob(swtpm.BlobKind(k), blob, false); err != nil {
				t.Fatal(err)
			}
		}
		wantRefusal(t, i.PowerOn(swtpm.Peer{}, true), "STATE_DAMAGED")
		on(t, i)
		if _, nv, _ := run(i, 0); nv != 1 {
			t.Errorf("%s: the state in the directory was replaced: counter %d, want 1", name, nv)
		}
		i.PowerOff()
	}
}
