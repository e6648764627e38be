package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"syscall"
	"time"
)

// signingLogFile lies beside the keys whose uses it records.
const signingLogFile = "signing.log"

// signingEntry is one line. Prev is the hash of the line before, so a line
// cannot be changed or taken out of the middle without a trace.
type signingEntry struct {
	Seq    int       `json:"seq"`
	Time   time.Time `json:"time"`
	Event  string    `json:"event"` // create, issue, sign
	Serial string    `json:"serial"`
	Name   string    `json:"name"`
	File   string    `json:"file,omitempty"`
	SHA256 string    `json:"sha256,omitempty"` // of what is signed
	User   string    `json:"user"`
	Prev   string    `json:"prev"`
}

// signingLog is an append-only file of entries.
type signingLog struct{ path string }

// record writes an entry and waits until it is on the disk. It is called
// before the key is used: a use that cannot be recorded does not happen.
func (l *signingLog) record(e signingEntry) error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the signing log: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking the signing log: %w", err)
	}
	last, line, err := lastEntry(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", l.path, err)
	}
	e.Seq, e.Prev = last.Seq+1, hex.EncodeToString(line)
	e.User = "uid " + fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		e.User = u.Username
	}
	b, err := json.Marshal(e)
	if err == nil {
		_, err = f.Write(append(b, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("writing the signing log: %w", err)
	}
	return nil
}

// lastEntry reads the last line and hashes it. A torn line, as a crash leaves
// it, is an error: somebody must look.
func lastEntry(f *os.File) (e signingEntry, sum []byte, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return e, nil, err
	}
	b := make([]byte, min(end, 16<<10))
	if _, err := f.ReadAt(b, end-int64(len(b))); err != nil {
		return e, nil, err
	}
	if b[len(b)-1] != '\n' {
		return e, nil, errors.New("the last line is cut off; move the file away and begin a new one, after a look at what was signed")
	}
	b = b[:len(b)-1]
	b = b[bytes.LastIndexByte(b, '\n')+1:]
	if err := json.Unmarshal(b, &e); err != nil {
		return e, nil, fmt.Errorf("the last line is not an entry: %w", err)
	}
	h := sha256.Sum256(b)
	return e, h[:], nil
}

// check reads the whole log and returns the number of entries, or the first
// line that does not follow from the one before.
func (l *signingLog) check() (int, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	n, prev := 0, ""
	for s.Scan() {
		var e signingEntry
		if err := json.Unmarshal(s.Bytes(), &e); err != nil || e.Seq != n+1 || e.Prev != prev {
			return n, fmt.Errorf("line %d does not follow from line %d: it was changed, or one is missing", n+1, n)
		}
		h := sha256.Sum256(s.Bytes())
		n, prev = n+1, hex.EncodeToString(h[:])
	}
	return n, s.Err()
}
