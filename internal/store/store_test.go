package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func temp(t testing.TB) string { return filepath.Join(t.TempDir(), "vouchsafe.db") }

func vm(name string) enroll.VM {
	id := keyring.ID{}
	copy(id[:], name)
	return enroll.VM{Tenant: "default", Name: name, ID: id, Host: "h1", State: enroll.StateBorn, EKPublic: []byte("ek of " + name), Created: time.UnixMilli(1000).UTC()}
}

func birth(t testing.TB, s *Store, name string) {
	t.Helper()
	if err := s.Birth(t.Context(), vm(name), []enroll.Disk{{Name: "root", Share: []byte("share")}}, enroll.Once{}); err != nil {
		t.Fatal(err)
	}
}

// TestEveryTableHasATenant holds for all tables of all migrations to come.
func TestEveryTableHasATenant(t *testing.T) {
	s := open(t, temp(t))
	name := func(r scanner) (string, error) { var n string; return n, r.Scan(&n) }
	tables, err := list(t.Context(), s.reading, name, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil || len(tables) < 10 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	for _, table := range tables {
		columns, err := list(t.Context(), s.reading, name, `SELECT name FROM pragma_table_info($1) WHERE "notnull" = 1`, table)
		if err != nil || !slices.Contains(columns, "tenant") {
			t.Errorf("table %s has no tenant: %v, %v", table, columns, err)
		}
	}
}

func TestBirthRoundTrip(t *testing.T) {
	path := temp(t)
	s := open(t, path)
	want := vm("web1")
	want.StateSecret, want.EKSerial = []byte{1, 2}, "4f"
	if err := s.Birth(t.Context(), want, []enroll.Disk{{Name: "root", Share: []byte("share"), Created: want.Created}}, enroll.Once{}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
	s = open(t, path)
	got, err := s.VM(t.Context(), "default", "web1")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if d, err := s.Disk(t.Context(), "default", "web1", "root"); err != nil || string(d.Share) != "share" {
		t.Errorf("disk %+v, %v", d, err)
	}
	for _, other := range []struct{ tenant, name string }{{"other", "web1"}, {"default", "web2"}} {
		if _, err := s.VM(t.Context(), other.tenant, other.name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v", other, err)
		}
	}
	twin := want
	twin.Name, twin.ID = "web9", keyring.ID{9}
	var r enroll.Refusal
	if err := s.Birth(t.Context(), twin, nil, enroll.Once{}); !errors.As(err, &r) || r.Code != "EK_KNOWN" {
		t.Errorf("one endorsement key, two VMs: %v", err)
	}
	twin = want
	twin.EKPublic = []byte("another")
	if err := s.Birth(t.Context(), twin, nil, enroll.Once{}); !errors.Is(err, ErrExists) {
		t.Errorf("born twice: %v", err)
	}
}

// TestOnce: a repeated request is recognised; the same key with another request is refused.
func TestOnce(t *testing.T) {
	s := open(t, temp(t))
	o := enroll.Once{Key: "k1", Digest: []byte("d1")}
	if err := s.Birth(t.Context(), vm("web1"), nil, o); err != nil {
		t.Fatal(err)
	}
	if name, err := s.Repeated(t.Context(), "default", o); err != nil || name != "web1" {
		t.Errorf("repeated: %q, %v", name, err)
	}
	if name, err := s.Repeated(t.Context(), "other", o); err != nil || name != "" {
		t.Errorf("another tenant's key: %q, %v", name, err)
	}
	if _, err := s.Repeated(t.Context(), "default", enroll.Once{Key: "k1", Digest: []byte("d2")}); !errors.Is(err, enroll.ErrOtherRequest) {
		t.Errorf("another request: %v", err)
	}
	if err := s.Birth(t.Context(), vm("web2"), nil, o); !errors.Is(err, ErrExists) {
		t.Errorf("the key was taken twice: %v", err)
	}
	if _, err := s.VM(t.Context(), "default", "web2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half a birth remained: %v", err)
	}
}

// TestUpdateIsAllOrNothing: a change that fails leaves nothing behind, and a
// VM's identity cannot be changed at all.
func TestUpdateIsAllOrNothing(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	no := errors.New("no")
	if err := s.UpdateVM(t.Context(), "default", "web1", func(st *enroll.Standing) error {
		st.VM.Generation = 9
		return no
	}); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if err := s.UpdateVM(t.Context(), "default", "web1", func(st *enroll.Standing) error {
		st.VM.EKPublic = []byte("mine")
		return nil
	}); err == nil {
		t.Error("the endorsement key was changed")
	}
	v, _ := s.VM(t.Context(), "default", "web1")
	if v.Generation != 0 || string(v.EKPublic) != "ek of web1" {
		t.Errorf("left behind: %+v", v)
	}
	if err := s.UpdateVM(t.Context(), "default", "web1", func(st *enroll.Standing) error {
		st.Lease = &enroll.Lease{Host: "h1", Generation: 1}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateVM(t.Context(), "default", "web1", func(st *enroll.Standing) error {
		if st.Lease == nil || st.Lease.Host != "h1" {
			t.Errorf("the lease is %+v", st.Lease)
		}
		st.Lease = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestVolumeKeyIsRecordedOnce: another disk under the same name is refused.
func TestVolumeKeyIsRecordedOnce(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	for i, digest := range []string{"first", "first", "second"} {
		err := s.RecordVolumeKey(t.Context(), "default", "web1", "root", []byte(digest))
		var r enroll.Refusal
		if refused := errors.As(err, &r) && r.Code == "DISK_SWAPPED"; refused != (i == 2) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestBatchIsolation: in one transaction, a failing job takes no other with it.
func TestBatchIsolation(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "taken")
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for i := range 200 {
		wg.Go(func() {
			name := fmt.Sprintf("vm%03d", i)
			if i%3 == 0 {
				name = "taken"
			}
			if err := s.Birth(t.Context(), vm(name), nil, enroll.Once{}); err != nil {
				var r enroll.Refusal
				if !errors.As(err, &r) || i%3 != 0 {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	vms, err := s.VMs(t.Context(), "default", "", 1000)
	if err != nil || failed != 67 || len(vms) != 1+133 {
		t.Errorf("%d failed, %d VMs, %v", failed, len(vms), err)
	}
	changes, err := s.Changes(t.Context(), "default", 0, 1000)
	if err != nil || len(changes) != len(vms) {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	for i, c := range changes {
		if c.Rev != int64(i+1) {
			t.Fatalf("change %d has revision %d: there is a gap", i, c.Rev)
		}
	}
	if bad, err := s.Check(t.Context()); err != nil || bad != nil {
		t.Errorf("check: %v, %v", bad, err)
	}
}

// TestFullDisk: writes are refused loudly, reads go on, and so do writes when
// there is room again.
func TestFullDisk(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	pages := func(n int) {
		if err := s.write(t.Context(), func(t *tx) error { _, err := t.exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); return err }); err != nil {
			t.Fatal(err)
		}
	}
	pages(1) // SQLite takes this as: no more than there are
	big := vm("web2")
	big.StateSecret = make([]byte, 1<<20)
	if err := s.Birth(t.Context(), big, nil, enroll.Once{}); !errors.Is(err, ErrFull) {
		t.Errorf("a write on a full disk: %v", err)
	}
	if _, err := s.VM(t.Context(), "default", "web1"); err != nil {
		t.Errorf("a read on a full disk: %v", err)
	}
	pages(1 << 30)
	if err := s.Birth(t.Context(), big, nil, enroll.Once{}); err != nil {
		t.Errorf("a write when there is room again: %v", err)
	}
	if bad, err := s.Check(t.Context()); err != nil || bad != nil {
		t.Errorf("check: %v, %v", bad, err)
	}
}

// TestGivingUp: a caller that goes away either wrote nothing or hears how it went.
func TestGivingUp(t *testing.T) {
	s := open(t, temp(t))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
			defer cancel()
			v := vm(fmt.Sprintf("vm%03d", i))
			err := s.Birth(ctx, v, nil, enroll.Once{})
			time.Sleep(10 * time.Millisecond)
			if _, there := s.VM(t.Context(), "default", v.Name); (there == nil) != (err == nil) {
				t.Errorf("%s: answered %v, and then %v", v.Name, err, there)
			}
		})
	}
	wg.Wait()
}

func TestSchemaOfTheFuture(t *testing.T) {
	path := temp(t)
	s := open(t, path)
	if err := s.write(t.Context(), func(t *tx) error {
		_, err := t.exec(`INSERT INTO schema_version (tenant, version, applied) VALUES ('', 99, 0)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v", err)
	}
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"3.51.3": true, "3.51.2": false, "3.52.0": true, "3.9.9": false, "4.0": true, "3.51": false, "": false, "x.y.z": false, "3.53.4": true} {
		if got := atLeast(version, 3, 51, 3); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

func TestDurabilitySettings(t *testing.T) {
	s := open(t, temp(t))
	if err := safe(t.Context(), s.writing2(t)); err != nil {
		t.Error(err)
	}
	if _, err := s.reading.Exec(`DELETE FROM vm`); err == nil {
		t.Error("a reading connection writes")
	}
}

// writing2 opens another connection as the writer's are opened.
func (s *Store) writing2(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(s.path, "synchronous(FULL)"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestUnfinishedRevocation: a revoked VM that still has a good certificate is found.
// TestForgetChanges: the feed of changes ends somewhere, and goes on where it was.
func TestForgetChanges(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	err := s.write(t.Context(), func(t *tx) error {
		for range 2*forgetAtOnce + 5 {
			if err := t.changed("default", "vm", "web1", "updated"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.forgetChanges(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	left, err := s.Changes(t.Context(), "default", 0, 100)
	if err != nil || len(left) != 7 || left[6].Rev != left[0].Rev+6 {
		t.Fatalf("%v, %v", left, err)
	}
	birth(t, s, "web2")
	if more, err := s.Changes(t.Context(), "default", left[6].Rev, 100); err != nil || len(more) != 1 || more[0].ID != "web2" {
		t.Errorf("%v, %v", more, err)
	}
	if err := s.Forget(t.Context()); err != nil {
		t.Error(err)
	}
	if bad, err := s.Check(t.Context()); err != nil || len(bad) > 0 {
		t.Errorf("%v, %v", bad, err)
	}
}

// TestHostTPMStays: two who change a host at the same moment do not undo that its
// TPM was enrolled.
func TestHostTPMStays(t *testing.T) {
	s := open(t, temp(t))
	known := enroll.Host{Tenant: "default", Name: "h1"}
	enrolled, other := known, known
	enrolled.EK, enrolled.EKBond, other.EK, other.EKBond = []byte("a key"), []byte("a bond"), []byte("b key"), []byte("b bond")
	for _, h := range []enroll.Host{known, enrolled} {
		if err := s.SaveHost(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	known.AcceptedUnattested = true // by somebody who had read it before
	if err := s.SaveHost(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	var r enroll.Refusal
	if err := s.SaveHost(t.Context(), other); !errors.As(err, &r) || r.Code != "HOST_TPM_OTHER" {
		t.Errorf("another TPM: %v", err)
	}
	if got, err := s.Host(t.Context(), "default", "h1"); err != nil || string(got.EK) != "a key" || string(got.EKBond) != "a bond" || !got.AcceptedUnattested {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUnfinishedRevocation(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	birth(t, s, "web")
	birth(t, s, "web_") // no pattern: web1 is another VM
	subject := "spiffe://vouchsafe.test/default/vm/web1"
	in := ca.Intent{Tenant: "default", Purpose: ca.VMIdentity, Profile: "vm-identity", Serial: "4f", Subject: subject, NotAfter: time.Now().Add(time.Hour)}
	if err := s.RecordIntent(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := s.write(t.Context(), func(t *tx) error { _, err := t.exec(`UPDATE certificate SET state = 'issued'`); return err }); err != nil {
		t.Fatal(err)
	}
	find := func() int {
		t.Helper()
		vms, err := s.UnfinishedRevocations(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(vms)
	}
	if n := find(); n != 0 {
		t.Errorf("%d unfinished before anything was revoked", n)
	}
	for i, vm := range []string{"web_", "web1", "web"} {
		if err := s.UpdateVM(t.Context(), "default", vm, func(st *enroll.Standing) error { st.VM.State = enroll.StateRevoked; return nil }); err != nil {
			t.Fatal(err)
		}
		if n, want := find(), min(i, 1); n != want {
			t.Errorf("%d unfinished after %s was revoked, want %d", n, vm, want)
		}
	}
	if serials, err := s.RevokeSubject(t.Context(), "default", subject, ca.PrivilegeWithdrawn); err != nil || len(serials) != 1 {
		t.Errorf("revoked %v, %v", serials, err)
	}
	if n := find(); n != 0 {
		t.Errorf("%d unfinished after revoking", n)
	}
}

func TestKeyRotationIsStored(t *testing.T) {
	s := open(t, temp(t))
	ring := keyring.NewRing(secret.Random(32))
	k, err := ring.Create("default", "db", keyring.Encryption, keyring.DefaultPolicy(keyring.Encryption), time.UnixMilli(5).UTC())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if err := s.SaveKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		got, err := s.Key(t.Context(), "default", "db")
		if err != nil || fmt.Sprint(got) != fmt.Sprint(k) {
			t.Fatalf("rotation %d: got %v, %v\nwant %v", i, got, err, k)
		}
		if _, err := ring.Open(got); err != nil {
			t.Fatal(err)
		}
		if k, _, err = ring.Rotate(k, time.UnixMilli(int64(i+10)).UTC(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshot(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	copied := temp(t)
	if err := s.Snapshot(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	birth(t, s, "web2")
	c := open(t, copied)
	if _, err := c.VM(t.Context(), "default", "web1"); err != nil {
		t.Error(err)
	}
	if _, err := c.VM(t.Context(), "default", "web2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the copy changes with the original: %v", err)
	}
}

// TestMain becomes the writer that TestKill kills, when it is asked to.
func TestMain(m *testing.M) {
	if path := os.Getenv("VOUCHSAFE_TEST_STORE_WRITER"); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(path string) {
	s, err := Open(context.Background(), path, nil)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	run := rand.Uint64()
	for i := range 4 {
		go func() {
			for j := 0; ; j++ {
				v := vm(fmt.Sprintf("vm-%x-%d-%d", run, i, j))
				v.ID = keyring.ID([]byte(fmt.Sprintf("%016x", rand.Uint64())))
				err := s.Birth(context.Background(), v, []enroll.Disk{{Name: "root", Share: bytes.Repeat([]byte{1}, 100)}}, enroll.Once{})
				mu.Lock()
				if err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				fmt.Println(v.Name)
				mu.Unlock()
			}
		}()
	}
	go func() { // certificates that ended are forgotten and made all the while
		for err := error(nil); ; {
			var until time.Time
			if until, _, err = s.Ended(context.Background(), time.Now()); err == nil {
				_, err = s.ForgetEnded(context.Background(), until)
			}
			for i := range time.Duration(certificatesAtOnce + 50) {
				if err == nil {
					err = certificate(context.Background(), s, ca.VMIdentity, rand.Int64(), time.Now().Add(-i*time.Second))
				}
			}
			if err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
		}
	}()
	select {}
}

// TestKill kills a writer with SIGKILL at random moments, again and again over
// the same store: nothing acknowledged is lost, and no birth is half there.
func TestKill(t *testing.T) {
	cycles := 6
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 200
	}
	path := temp(t)
	acked := 0
	for cycle := range cycles {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "VOUCHSAFE_TEST_STORE_WRITER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }) // a writer that never begins
		var names []string
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break // what was cut short does not count
			}
			if strings.HasPrefix(line, "error") {
				t.Fatalf("cycle %d: %s", cycle, line)
			}
			if names = append(names, strings.TrimSpace(line)); len(names) == 1 { // a busy machine takes its time to begin
				time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { cmd.Process.Kill() })
			}
		}
		late.Stop()
		cmd.Wait()
		s, err := Open(t.Context(), path, nil)
		if err != nil {
			t.Fatalf("cycle %d: %v", cycle, err)
		}
		if bad, err := s.Check(t.Context()); err != nil || bad != nil {
			t.Fatalf("cycle %d: %v, %v", cycle, bad, err)
		}
		for _, n := range names {
			if _, err := s.Disk(t.Context(), "default", n, "root"); err != nil {
				t.Fatalf("cycle %d: %s was acknowledged: %v", cycle, n, err)
			}
		}
		acked += len(names)
		s.Close()
	}
	if acked < cycles {
		t.Errorf("only %d births: the test kills too early", acked)
	}
	s := open(t, path)
	until, n, err := s.Ended(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ForgetEnded(t.Context(), until); err != nil {
		t.Fatal(err)
	}
	if bad, err := s.Check(t.Context()); err != nil || bad != nil {
		t.Errorf("after the last sweep: %v, %v", bad, err)
	}
	t.Logf("%d kills, %d births acknowledged, none lost; %d ended certificates were left", cycles, acked, n)
}

func BenchmarkBirth(b *testing.B) {
	s := open(b, temp(b))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v := vm(fmt.Sprintf("vm-%x", rand.Uint64()))
			v.ID = keyring.ID([]byte(fmt.Sprintf("%016x", rand.Uint64())))
			if err := s.Birth(b.Context(), v, nil, enroll.Once{}); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestWritesOfBefore: a store from before states were counted takes every count.
func TestWritesOfBefore(t *testing.T) {
	path := temp(t)
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	ms, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	before := slices.IndexFunc(ms, func(m migration) bool { return strings.Contains(m.sql, "COLUMN writes") })
	for v, m := range ms[:before] {
		if _, err := db.Exec(m.sql); err != nil {
			t.Fatalf("version %d: %v", v+1, err)
		}
	}
	id := keyring.ID{7}
	for _, q := range []string{
		`CREATE TABLE schema_version (tenant TEXT NOT NULL, version INTEGER NOT NULL, applied INTEGER NOT NULL, PRIMARY KEY (tenant, version)) STRICT`,
		`INSERT INTO schema_version VALUES ('', ` + fmt.Sprint(before) + `, 0)`,
		`INSERT INTO vm (tenant, name, id, host, state, ek_public, ek_serial, state_secret, generation, pending, created) VALUES ('default', 'web1', '` + id.String() + `', 'h1', 'born', x'01', '', x'02', 4, 0, 0)`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	s := open(t, path)
	v, err := s.VM(t.Context(), "default", "web1")
	if err != nil || v.Generation != 4 || v.Writes != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}
