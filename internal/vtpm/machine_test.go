package vtpm

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// counter is a machine with one NV counter and one counter in RAM. Command
// code 1 adds to both and stores, 2 adds to RAM only; the answer carries both.
type counter struct {
	mu      sync.Mutex
	store   store
	nv, ram uint64
}

var counterMaker = maker{
	manufacture: func(s store, _ int, _ uint32) (machine, error) {
		c := &counter{store: s}
		return c, s.Put(c.Permanent())
	},
	powerOn: func(s store, permanent []byte, _ int) (machine, error) {
		if len(permanent) != 8 {
			return nil, errors.New("no counter")
		}
		return &counter{store: s, nv: binary.BigEndian.Uint64(permanent)}, nil
	},
}

func (c *counter) Execute(_ uint8, cmd, dst []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	rc := uint32(0)
	switch binary.BigEndian.Uint32(cmd[6:]) {
	case 1, 0x145: // the real engine stores on TPM2_Shutdown as well
		c.nv++
		if c.store.Put(c.permanent()) != nil {
			c.nv--
			rc = 0x923
			break
		}
		c.ram++
	case 2:
		c.ram++
	}
	dst = append(dst, 0x80, 1, 0, 0, 0, 26)
	dst = binary.BigEndian.AppendUint32(dst, rc)
	dst = binary.BigEndian.AppendUint64(dst, c.nv)
	return binary.BigEndian.AppendUint64(dst, c.ram)
}

func (c *counter) permanent() []byte { return binary.BigEndian.AppendUint64(nil, c.nv) }
func (c *counter) Permanent() []byte { c.mu.Lock(); defer c.mu.Unlock(); return c.permanent() }
func (c *counter) Volatile() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, c.ram), nil
}
func (c *counter) Resume(v []byte) error {
	if len(v) != 8 {
		return errors.New("no counter")
	}
	c.ram = binary.BigEndian.Uint64(v)
	return nil
}
func (c *counter) HashStart()                  {}
func (c *counter) HashData([]byte)             {}
func (c *counter) HashEnd()                    {}
func (c *counter) Established() bool           { return false }
func (c *counter) ResetEstablished(uint8) bool { return true }
func (c *counter) Cancel()                     {}

// run executes one command and returns its code and both counters.
func run(i *Instance, code uint32) (rc uint32, nv, ram uint64) {
	cmd := binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, code)
	r := i.Execute(0, cmd, nil)
	if rc = binary.BigEndian.Uint32(r[6:]); len(r) < 26 {
		return rc, 0, 0
	}
	return rc, binary.BigEndian.Uint64(r[10:]), binary.BigEndian.Uint64(r[18:])
}

// logged collects log lines.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *logged) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// openTest opens cfg with counters for machines, until the test ends. What
// would be sent at power-off is left out unless a test asks for it.
func openTest(t *testing.T, cfg Config) (*Instance, *logged) {
	t.Helper()
	i, log, err := tryOpen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i, log
}

func tryOpen(cfg Config) (*Instance, *logged, error) {
	log := &logged{}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	i, err := open(cfg, counterMaker)
	return i, log, err
}

func on(t *testing.T, i *Instance) {
	t.Helper()
	if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
		t.Fatal(err)
	}
}

// wantRefusal checks that err is a finding with this code.
func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Errorf("got %v, want %s", err, code)
	} else if r.Finding.Code != code {
		t.Errorf("got %v, want %s", r, code)
	} else if strings.Contains(r.Finding.Remedy, "{") || strings.Contains(r.Finding.Meaning, "{") {
		t.Errorf("a place was left empty: %+v", r.Finding)
	}
}

func (c *counter) Counters() (reset, restart uint32, ever uint64) { return 0, 0, 0 }
