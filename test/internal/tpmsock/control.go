package tpmsock

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Commands of swtpm's control channel that tests need.
const (
	ctrlInit        = 0x02
	ctrlShutdown    = 0x03
	ctrlSetLocality = 0x05
	ctrlStore       = 0x0a
)

// A Control is swtpm's control channel.
type Control struct{ c net.Conn }

// DialControl opens unix:PATH or tcp:HOST:PORT.
func DialControl(addr string) (*Control, error) {
	kind, where, _ := strings.Cut(addr, ":")
	c, err := dial(kind, where)
	if err != nil {
		return nil, err
	}
	return &Control{c}, nil
}

// PowerCycle takes the power away and gives it back, without TPM2_Shutdown.
func (c *Control) PowerCycle() error { return c.do(ctrlInit, []byte{0, 0, 0, 0}) }

// Suspend has the volatile state written, and the TPM begin anew with it.
func (c *Control) Suspend() error {
	if err := c.do(ctrlStore, nil); err != nil {
		return err
	}
	return c.do(ctrlInit, []byte{0, 0, 0, 1})
}

// Store has the volatile state written, and the TPM go on.
func (c *Control) Store() error { return c.do(ctrlStore, nil) }

// SetLocality sets the locality of the commands that follow.
func (c *Control) SetLocality(l uint8) error { return c.do(ctrlSetLocality, []byte{l}) }

// Shutdown ends the process.
func (c *Control) Shutdown() error { return c.do(ctrlShutdown, nil) }

// Close closes the channel.
func (c *Control) Close() error { return c.c.Close() }

func (c *Control) do(cmd uint32, body []byte) error {
	c.c.SetDeadline(time.Now().Add(patience))
	req := append(binary.BigEndian.AppendUint32(nil, cmd), body...)
	if _, err := c.c.Write(req); err != nil {
		return err
	}
	var rsp [4]byte
	if _, err := io.ReadFull(c.c, rsp[:]); err != nil {
		return fmt.Errorf("control command %d: %w", cmd, err)
	}
	if rc := binary.BigEndian.Uint32(rsp[:]); rc != 0 {
		return fmt.Errorf("control command %d: result 0x%x", cmd, rc)
	}
	return nil
}
