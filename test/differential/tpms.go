package differential

import (
	"fmt"
	"os"

	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
)

// socketTPM is a server with swtpm's two channels, started afresh.
type socketTPM struct {
	dir      string
	p        *tpmsock.Process
	data     *tpmsock.Conn
	ctrl     *tpmsock.Control
	locality uint8
}

// newSocketTPM starts argv (see tpmsock.Start) with an empty state.
func newSocketTPM(argv ...string) (TPM, error) {
	dir, err := os.MkdirTemp("", "vouchsafe-differential-")
	if err != nil {
		return nil, err
	}
	t := &socketTPM{dir: dir}
	if t.p, err = tpmsock.Start(dir, argv...); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if t.data, err = tpmsock.Dial(t.p.Data); err == nil {
		t.ctrl, err = tpmsock.DialControl(t.p.Control)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *socketTPM) Execute(locality uint8, cmd []byte) ([]byte, error) {
	if locality != t.locality {
		if err := t.ctrl.SetLocality(locality); err != nil {
			return nil, fmt.Errorf("locality %d: %w", locality, err)
		}
		t.locality = locality
	}
	return t.data.Send(cmd)
}

func (t *socketTPM) PowerCycle() error {
	t.locality = 0
	return t.ctrl.PowerCycle()
}

func (t *socketTPM) Suspend() error {
	t.locality = 0
	return t.ctrl.Suspend()
}

func (t *socketTPM) Close() {
	t.p.Stop()
	os.RemoveAll(t.dir)
}
