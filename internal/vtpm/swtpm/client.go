package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Client is the asking end of a control channel: what QEMU, libvirt's
// swtpm_ioctl and operators do. It is not for several goroutines.
type Client struct {
	// Conn is a connected control channel.
	Conn net.Conn
	// Timeout is for each answer; zero waits for ever.
	Timeout time.Duration
}

// call sends a request and reads n bytes of answer, of which the first four
// are the result.
func (c *Client) call(cmd uint32, body []byte, n int) ([]byte, error) {
	if c.Timeout > 0 {
		if err := c.Conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
			return nil, err
		}
	}
	if _, err := c.Conn.Write(append(binary.BigEndian.AppendUint32(nil, cmd), body...)); err != nil {
		return nil, err
	}
	return c.answer(n)
}

func (c *Client) answer(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(c.Conn, b[:4]); err != nil {
		return nil, err
	}
	if r := Result(binary.BigEndian.Uint32(b)); r != Success {
		return nil, r
	}
	_, err := io.ReadFull(c.Conn, b[4:])
	return b[4:], err
}

func u32(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return b
}

// Capabilities asks which commands the other side knows, as bits.
func (c *Client) Capabilities() (uint32, error) {
	b, err := c.call(cmdGetCapability, nil, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// Init powers the TPM on, or cycles its power.
func (c *Client) Init(deleteVolatile bool) error {
	_, err := c.call(cmdInit, u32(uint32(boolByte(deleteVolatile))), 4)
	return err
}

// Stop powers the TPM off.
func (c *Client) Stop() error { return c.plain(cmdStop) }

// Shutdown powers the TPM off and ends its process.
func (c *Client) Shutdown() error { return c.plain(cmdShutdown) }

// StoreVolatile keeps the volatile state for the next Init.
func (c *Client) StoreVolatile() error { return c.plain(cmdStoreVolatile) }

// Cancel stops the running TPM command.
func (c *Client) Cancel() error { return c.plain(cmdCancelTPMCommand) }

// HashStart begins an H-CRTM measurement at locality 4.
func (c *Client) HashStart() error { return c.plain(cmdHashStart) }

// HashEnd ends it and extends PCR 17 (or PCR 0 before Startup).
func (c *Client) HashEnd() error { return c.plain(cmdHashEnd) }

func (c *Client) plain(cmd uint32) error {
	_, err := c.call(cmd, nil, 4)
	return err
}

// HashData adds to an H-CRTM measurement.
func (c *Client) HashData(data []byte) error {
	for len(data) > 0 {
		n := min(len(data), maxHashData)
		if _, err := c.call(cmdHashData, append(u32(uint32(n)), data[:n]...), 4); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Established reads the TPM_ESTABLISHMENT flag.
func (c *Client) Established() (bool, error) {
	b, err := c.call(cmdGetTPMEstablished, nil, 8)
	return err == nil && b[0] != 0, err
}

// ResetEstablished clears it, as from a locality.
func (c *Client) ResetEstablished(locality uint8) error {
	_, err := c.call(cmdResetTPMEstablished, []byte{locality}, 4)
	return err
}

// SetLocality chooses the locality of the commands that follow.
func (c *Client) SetLocality(locality uint8) error {
	_, err := c.call(cmdSetLocality, []byte{locality, 0, 0, 0}, 4)
	return err
}

// BufferSize sets (or, with 0, asks for) the largest command.
func (c *Client) BufferSize(want uint32) (size, least, most uint32, err error) {
	b, err := c.call(cmdSetBufferSize, u32(want), 16)
	if err != nil {
		return 0, 0, 0, err
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), nil
}

// Config says which keys protect the state.
func (c *Client) Config() (state, migration bool, err error) {
	b, err := c.call(cmdGetConfig, nil, 8)
	if err != nil {
		return false, false, err
	}
	flags := binary.BigEndian.Uint32(b)
	return flags&configFileKey != 0, flags&configMigrationKey != 0, nil
}

// LockStorage asks the TPM to lock its state again.
func (c *Client) LockStorage(retries uint32) error {
	_, err := c.call(cmdLockStorage, u32(retries), 4)
	return err
}

// Info asks for the JSON that describes the TPM.
func (c *Client) Info(flags uint64) ([]byte, error) {
	body := binary.BigEndian.AppendUint64(nil, flags)
	b, err := c.call(cmdGetInfo, append(body, 0, 0, 0, 0, 0, 0, 0, 0), 12)
	if err != nil {
		return nil, err
	}
	text, err := c.data(binary.BigEndian.Uint32(b[4:]))
	if n := len(text); n > 0 && text[n-1] == 0 {
		text = text[:n-1]
	}
	return text, err
}

// Blob fetches a whole state blob.
func (c *Client) Blob(kind BlobKind, plain bool) (data []byte, sealed bool, err error) {
	flags := uint32(0)
	if plain {
		flags = blobDecrypted
	}
	b, err := c.call(cmdGetStateBlob, u32(flags, uint32(kind), 0), 16)
	if err != nil {
		return nil, false, err
	}
	sealed = binary.BigEndian.Uint32(b)&blobEncrypted != 0
	if binary.BigEndian.Uint32(b[4:]) != binary.BigEndian.Uint32(b[8:]) {
		return nil, false, errors.New("the state blob came in part only")
	}
	data, err = c.data(binary.BigEndian.Uint32(b[8:]))
	return data, sealed, err
}

func (c *Client) data(n uint32) ([]byte, error) {
	if n > maxBlob {
		return nil, fmt.Errorf("an answer of %d bytes is beyond the limit of %d", n, maxBlob)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.Conn, b)
	return b, err
}

// SetBlob sends a state blob to a TPM that is off.
func (c *Client) SetBlob(kind BlobKind, data []byte, sealed bool) error {
	flags := uint32(0)
	if sealed {
		flags = blobEncrypted
	}
	_, err := c.call(cmdSetStateBlob, append(u32(flags, uint32(kind), uint32(len(data))), data...), 4)
	return err
}

// SetDataFD hands over one end of a socket pair as the data channel.
func (c *Client) SetDataFD(fd int) error {
	u, ok := c.Conn.(*net.UnixConn)
	if !ok {
		return errors.New("a descriptor travels over a unix socket only")
	}
	if _, _, err := u.WriteMsgUnix(u32(cmdSetDataFD), syscall.UnixRights(fd), nil); err != nil {
		return err
	}
	_, err := c.answer(4)
	return err
}
