package vtpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Files of a state directory.
const (
	permanentFile = "vtpm.state"
	volatileFile  = "vtpm.volatile"
	lockFile      = "vtpm.lock"
	runFile       = "vtpm.running"
	tempSuffix    = ".tmp"
)

// dir is a state directory. No file in it is reached through a symbolic link
// (CVE-2020-28407), and none is ever changed in place.
type dir struct {
	path string
	mode fs.FileMode
	lock *os.File // held while not nil
	// foreign is swtpm's own lock, held beside ours where there is state of
	// swtpm: two programs that know only their own lock would run one TPM twice.
	foreign *os.File
	owner   *syscall.Stat_t // whose the files are to be; nil: whoever writes them

	testOnlySync func() error // stands for the fsync of the directory
}

// give makes a file that was just made its owner's.
func (d *dir) give(f *os.File) error {
	if d.owner == nil {
		return nil
	}
	return f.Chown(int(d.owner.Uid), int(d.owner.Gid))
}

// take locks the directory against other processes, trying retries times more
// every 10 ms. The lock goes with the process, however that ends.
func (d *dir) take(retries int) error {
	if d.lock != nil {
		return nil
	}
	name := filepath.Join(d.path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err == nil {
		err = d.give(f)
	}
	if err != nil {
		return err
	}
	for ; ; retries-- {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			d.lock = f
			if err := d.takeForeign(d.has(permanentFile)); err != nil {
				d.release()
				return err
			}
			return nil
		}
		if err != syscall.EWOULDBLOCK || retries <= 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Close()
	if err == syscall.EWOULDBLOCK {
		return refuse("STATE_LOCKED", d.path, "another process holds the lock on "+lockFile, name)
	}
	return fmt.Errorf("locking %s: %w", name, err)
}

// takeForeign locks out swtpm where there is state of its own, by its lock file,
// which is made only where there is a state of ours to protect.
func (d *dir) takeForeign(create bool) error {
	if d.foreign != nil || !d.has(foreignFile) || !create && !d.has(foreignLock) {
		return nil
	}
	name := filepath.Join(d.path, foreignLock)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("locking out swtpm: %w", err)
	}
	if err := d.give(f); err != nil {
		f.Close()
		return fmt.Errorf("locking out swtpm: %w", err)
	}
	// swtpm locks the whole file (swtpm_nvstore_dir.c).
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
	if err == nil {
		d.foreign = f
		return nil
	}
	f.Close()
	if err == syscall.EACCES || err == syscall.EAGAIN {
		return refuse("STATE_LOCKED", d.path, "swtpm is running on it: a process holds the lock on "+foreignLock, name)
	}
	return fmt.Errorf("locking %s: %w", name, err)
}

func (d *dir) release() {
	if d.foreign != nil {
		d.foreign.Close()
		d.foreign = nil
	}
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}

// read returns a whole file, or nil when there is none.
func (d *dir) read(name string) ([]byte, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, headerSize+maxState+1))
	if err == nil && b == nil {
		b = []byte{} // there, and empty
	}
	return b, err
}

// write replaces a file: a temporary file beside it, fsync, rename, fsync of
// the directory. After a crash at any moment the name shows the old content or
// the new one, and once write has returned only the new one.
//
// When it fails the name shows the old content: where the directory cannot be
// synced after the rename, the old file is written back, so that what a command
// was refused for is not what the next start finds.
//
// The system calls, for whoever checks with strace: openat of the old file and
// close, openat O_EXCL, write, fsync, close, renameat, openat of the directory,
// fsync, close.
func (d *dir) write(name string, content []byte) error {
	old, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != nil {
		defer old.Close()
	}
	if err := d.replace(name, content); err != nil {
		return err
	}
	err = d.sync()
	if err == nil {
		return nil
	}
	if e := d.restore(name, old); e != nil {
		return fmt.Errorf("%w; and the old %s cannot be put back: %w", err, name, e)
	}
	return err
}

// restore puts an old file, which has lost its name, or its absence back.
func (d *dir) restore(name string, old *os.File) error {
	if old == nil {
		return os.Remove(filepath.Join(d.path, name))
	}
	content, err := io.ReadAll(old)
	if err != nil {
		return err
	}
	return d.replace(name, content)
}

// replace is write up to the rename, which may be lost with the power.
func (d *dir) replace(name string, content []byte) (err error) {
	to := filepath.Join(d.path, name)
	temp := to + tempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // left by a crash, and it will not go
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, d.mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(d.mode) // the umask had its say in OpenFile
	}
	if err == nil {
		err = d.give(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(temp, to)
	}
	return err
}

// remove deletes a file that may be absent, durably.
func (d *dir) remove(name string) error {
	err := os.Remove(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.sync()
}

func (d *dir) sync() error {
	if d.testOnlySync != nil {
		return d.testOnlySync()
	}
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *dir) has(name string) bool {
	_, err := os.Lstat(filepath.Join(d.path, name))
	return err == nil
}

// running is left in the directory while a TPM is on. Finding it at power-on
// means that the last process did not get to switch the TPM off.
type running struct {
	Boot  string    `json:"boot"` // the host kernel's boot id
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

func (d *dir) markRunning(now time.Time) {
	b, err := json.Marshal(running{bootID(), os.Getpid(), now.UTC().Truncate(time.Second)})
	if err != nil {
		return
	}
	// Nothing depends on it but a log line: no fsync.
	name := filepath.Join(d.path, runFile)
	os.Remove(name)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, d.mode)
	if err != nil {
		return
	}
	f.Write(b)
	f.Close()
}

// crashed tells how the last process ended, "" when it ended in order.
func (d *dir) crashed() string {
	b, err := d.read(runFile)
	if err != nil || b == nil {
		return ""
	}
	var r running
	if json.Unmarshal(b, &r) == nil && r.Boot != bootID() {
		return "the host was restarted"
	}
	return "the process ended without switching the TPM off"
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// State is one state file of a directory.
type State struct {
	Permanent bool
	Size      int64
}

// States lists the state files in a directory, without opening them.
func States(path string) []State {
	var all []State
	for _, name := range []string{permanentFile, volatileFile} {
		if info, err := os.Lstat(filepath.Join(path, name)); err == nil {
			all = append(all, State{name == permanentFile, info.Size()})
		}
	}
	if len(all) == 0 { // or what will be taken over
		for _, name := range []string{foreignFile, foreignVolatile} {
			if info, err := os.Lstat(filepath.Join(path, name)); err == nil {
				all = append(all, State{name == foreignFile, info.Size()})
			}
		}
	}
	return all
}

// Remove deletes the state of a vTPM that nobody uses, for ever. The directory
// and what else is in it stay.
func Remove(path string) error {
	d := dir{path: path}
	if err := d.take(0); err != nil {
		return err
	}
	defer d.release()
	if d.has(foreignFile) { // it would come back, as it was when swtpm left it
		return refuse("STATE_OF_SWTPM", path, "there is "+foreignFile, path)
	}
	for _, name := range []string{volatileFile, runFile, takeoverFile, permanentFile} {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	return nil
}
