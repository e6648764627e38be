package swtpm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"time"
)

// Commands of the control channel (tpm_ioctl.h). Everything is big-endian; a
// response starts with a [Result].
const (
	cmdGetCapability       = 0x01
	cmdInit                = 0x02
	cmdShutdown            = 0x03
	cmdGetTPMEstablished   = 0x04
	cmdSetLocality         = 0x05
	cmdHashStart           = 0x06
	cmdHashData            = 0x07
	cmdHashEnd             = 0x08
	cmdCancelTPMCommand    = 0x09
	cmdStoreVolatile       = 0x0A
	cmdResetTPMEstablished = 0x0B
	cmdGetStateBlob        = 0x0C
	cmdSetStateBlob        = 0x0D
	cmdStop                = 0x0E
	cmdGetConfig           = 0x0F
	cmdSetDataFD           = 0x10
	cmdSetBufferSize       = 0x11
	cmdGetInfo             = 0x12
	cmdLockStorage         = 0x13
)

// capabilities are all bits that Debian 12's swtpm reports (0xFFFF) and
// LOCK_STORAGE (0x10000). QEMU wants 0x348F, and 0x700 to migrate.
const capabilities = 0x1FFFF

const (
	initDeleteVolatile = 1 // of CMD_INIT
	blobDecrypted      = 1 // of GET_STATEBLOB: wanted
	blobEncrypted      = 2 // of GET_STATEBLOB and SET_STATEBLOB: is
	configFileKey      = 1
	configMigrationKey = 2
)

// control is one connection of the control channel.
type control struct {
	*Server
	in *stream
	by Peer
}

// serveControl answers one control channel until the peer goes away, or until
// SHUTDOWN. A request that does not arrive whole within its deadline is
// answered with BadParameter and forgotten; the connection goes on.
func (s *Server) serveControl(conn net.Conn) {
	c := &control{Server: s, in: &stream{conn: conn, size: controlBuffer}, by: peerOf(conn)}
	defer c.in.drop()
	for {
		c.in.drop()
		if c.in.fill(time.Time{}) != nil {
			return
		}
		l := &limit{within: requestTimeout}
		err := c.in.need(4, l)
		var response []byte
		var cmd uint32
		switch {
		case isTimeout(err):
			response = c.result(BadParameter)
		case err != nil:
			return
		default:
			cmd = binary.BigEndian.Uint32(c.in.take(4))
			if _, tcp := conn.(*net.TCPConn); tcp && cmd == cmdGetCapability && s.meansPowerOn() {
				c.in.buf = append(u32(mssimPowerOn), c.in.buf...)
				s.servePlatform(c.in, c.by)
				return
			}
			if response, err = c.handle(cmd, l); err != nil {
				return
			}
		}
		if c.in.write(response) != nil {
			return
		}
		if cmd == cmdShutdown {
			s.stop()
			return
		}
	}
}

func (c *control) result(r Result, more ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(r)), more...)
}

// resultOf turns a device's answer into a result.
func resultOf(err error) Result {
	var r Result
	switch {
	case err == nil:
		return Success
	case errors.As(err, &r):
		return r
	}
	return Fail
}

// body gathers a body of n bytes; what follows in the same read is padding,
// which serveControl drops. false means that it did not come in time.
func (c *control) body(n int, l *limit) ([]byte, bool, error) {
	err := c.in.need(n, l)
	if isTimeout(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return c.in.take(n), true, nil
}

// bodySizes are the bodies that must be there before a command is looked at.
// SET_LOCALITY and RESET_TPMESTABLISHED come with one byte (tpm2-tss) or four (QEMU).
var bodySizes = map[uint32]int{
	cmdInit: 4, cmdSetLocality: 1, cmdHashData: 4, cmdResetTPMEstablished: 1,
	cmdGetStateBlob: 12, cmdSetStateBlob: 12, cmdSetBufferSize: 4, cmdGetInfo: 16, cmdLockStorage: 4,
}

// handle answers one request. An error ends the connection.
func (c *control) handle(cmd uint32, l *limit) ([]byte, error) {
	body, whole, err := c.body(bodySizes[cmd], l)
	if err != nil {
		return nil, err
	}
	if !whole {
		return c.result(BadParameter), nil
	}
	if c.needsPower(cmd) && !c.Device.Running() {
		return c.result(BadOrdinal), nil
	}
	switch cmd {
	case cmdGetCapability:
		return binary.BigEndian.AppendUint32(c.result(Success), capabilities), nil
	case cmdInit:
		return c.init(body), nil
	case cmdShutdown, cmdStop:
		return c.result(resultOf(c.Device.PowerOff())), nil
	case cmdGetTPMEstablished:
		return c.result(Success, boolByte(c.Device.Established()), 0, 0, 0), nil
	case cmdSetLocality:
		return c.result(c.setLocality(body[0])), nil
	case cmdHashStart:
		c.Device.HashStart()
		return c.result(Success), nil
	case cmdHashData:
		return c.hashData(body, l)
	case cmdHashEnd:
		c.Device.HashEnd()
		return c.result(Success), nil
	case cmdCancelTPMCommand:
		c.Device.Cancel()
		return c.result(Success), nil
	case cmdStoreVolatile:
		return c.result(resultOf(c.Device.StoreVolatile())), nil
	case cmdResetTPMEstablished:
		return c.resetEstablished(body[0]), nil
	case cmdGetStateBlob:
		return c.getStateBlob(body), nil
	case cmdSetStateBlob:
		return c.setStateBlob(body)
	case cmdGetConfig:
		return c.config(), nil
	case cmdSetDataFD:
		return c.setDataFD(), nil
	case cmdSetBufferSize:
		return c.setBufferSize(body), nil
	case cmdGetInfo:
		return c.info(body), nil
	case cmdLockStorage:
		return c.result(resultOf(c.Device.LockStorage(binary.BigEndian.Uint32(body)))), nil
	}
	return c.result(BadOrdinal), nil
}

func (c *control) needsPower(cmd uint32) bool {
	switch cmd {
	case cmdGetTPMEstablished, cmdHashStart, cmdHashData, cmdHashEnd, cmdCancelTPMCommand,
		cmdStoreVolatile, cmdResetTPMEstablished, cmdGetStateBlob:
		return true
	}
	return false
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// init is the one command whose body must be exactly as long as it is.
func (c *control) init(body []byte) []byte {
	if len(c.in.buf) > 0 {
		return c.result(BadParameter)
	}
	flags := binary.BigEndian.Uint32(body)
	return c.result(resultOf(c.Device.PowerOn(c.by, flags&initDeleteVolatile != 0)))
}

func (c *control) hashData(body []byte, l *limit) ([]byte, error) {
	n := binary.BigEndian.Uint32(body)
	if n > maxHashData {
		return c.result(Size), nil
	}
	data, whole, err := c.body(int(n), l)
	if err != nil {
		return nil, err
	}
	if !whole {
		return c.result(BadParameter), nil
	}
	c.Device.HashData(data)
	return c.result(Success), nil
}

func (c *control) resetEstablished(locality uint8) []byte {
	// Only localities 3 and 4 can reset it (PC Client Platform TPM Profile,
	// TPM_ACCESS.tpmEstablishment); the device decides.
	if locality > maxLocality || !c.Device.ResetEstablished(locality) {
		return c.result(BadLocality)
	}
	return c.result(Success)
}

// getStateBlob answers rc, flags, total length, length, data, from an offset.
// A kind that is absent answers NonFatal and nothing, which QEMU takes for empty.
func (c *control) getStateBlob(body []byte) []byte {
	flags, kind, offset := binary.BigEndian.Uint32(body), BlobKind(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body[8:])
	empty := make([]byte, 12)
	if kind < Permanent || kind > SaveState {
		return c.result(BadParameter, empty...)
	}
	data, sealed, err := c.Device.Blob(kind, flags&blobDecrypted != 0)
	if err != nil {
		return c.result(resultOf(err), empty...)
	}
	if uint64(offset) > uint64(len(data)) {
		return c.result(BadParameter, empty...)
	}
	response := c.result(Success)
	outFlags := uint32(0)
	if sealed {
		outFlags = blobEncrypted
	}
	response = binary.BigEndian.AppendUint32(response, outFlags)
	response = binary.BigEndian.AppendUint32(response, uint32(len(data)))
	response = binary.BigEndian.AppendUint32(response, uint32(len(data)-int(offset)))
	return append(response, data[offset:]...)
}

// setStateBlob reads flags, kind and length, and then the data, which QEMU
// sends in a write of its own. The length is checked before a byte is kept
// (CVE-2022-23645), and the header is whole before it is looked at (CVE-2026-75900).
func (c *control) setStateBlob(body []byte) ([]byte, error) {
	flags, kind, n := binary.BigEndian.Uint32(body), BlobKind(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body[8:])
	if n > maxBlob {
		// What follows can be half a gigabyte: nothing of it is read.
		if err := c.in.write(c.result(Size)); err != nil {
			return nil, err
		}
		return nil, errors.New("a state blob beyond the limit")
	}
	data, whole, err := c.body(int(n), &limit{within: blobTimeout})
	if err != nil {
		return nil, err
	}
	switch {
	case !whole, kind < Permanent, kind > SaveState:
		return c.result(BadParameter), nil
	case c.Device.Running():
		return c.result(BadOrdinal), nil
	}
	return c.result(resultOf(c.Device.SetBlob(kind, data, flags&blobEncrypted != 0))), nil
}

func (c *control) config() []byte {
	flags := uint32(0)
	state, migration := c.Device.Keys()
	if state {
		flags |= configFileKey
	}
	if migration {
		flags |= configMigrationKey
	}
	return binary.BigEndian.AppendUint32(c.result(Success), flags)
}

// setDataFD takes over one descriptor as the data channel.
func (c *control) setDataFD() []byte {
	if len(c.in.fds) != 1 {
		return c.result(BadParameter)
	}
	f := os.NewFile(uintptr(c.in.fds[0]), "data channel")
	c.in.fds = nil
	conn, err := net.FileConn(f)
	f.Close() // FileConn has duplicated it
	if err != nil {
		return c.result(BadParameter)
	}
	conn = handed{conn}
	if !c.attach(conn) {
		conn.Close()
		return c.result(IOError)
	}
	return c.result(Success)
}

// setBufferSize asks for (0) or sets the largest command, within the limits.
func (c *control) setBufferSize(body []byte) []byte {
	r := Success
	if want := binary.BigEndian.Uint32(body); want > 0 {
		if c.Device.Running() {
			r = BadOrdinal
		} else {
			size := min(max(want, minBuffer), maxCommand)
			c.bufferSize.Store(size)
			c.Device.SetBufferSize(size)
		}
	}
	response := c.result(r)
	response = binary.BigEndian.AppendUint32(response, c.bufferSize.Load())
	response = binary.BigEndian.AppendUint32(response, minBuffer)
	return binary.BigEndian.AppendUint32(response, maxCommand)
}

// info answers GET_INFO: JSON with a final NUL, from an offset.
func (c *control) info(body []byte) []byte {
	flags, offset := binary.BigEndian.Uint64(body), binary.BigEndian.Uint32(body[8:])
	text := append(infoJSON(flags, c.Device.Identity()), 0)
	if uint64(offset) >= uint64(len(text)) {
		return c.result(BadParameter, make([]byte, 8)...)
	}
	response := binary.BigEndian.AppendUint32(c.result(Success), uint32(len(text)))
	text = text[offset:]
	response = binary.BigEndian.AppendUint32(response, uint32(len(text)))
	return append(response, text...)
}

// Flags of GET_INFO.
const (
	infoSpecification = 1
	infoAttributes    = 2
)

func infoJSON(flags uint64, id Identity) []byte {
	type specification struct {
		Family   string `json:"family"`
		Level    int    `json:"level"`
		Revision int    `json:"revision"`
	}
	type attributes struct {
		Manufacturer string `json:"manufacturer"`
		Version      string `json:"version"`
		Model        string `json:"model"`
	}
	var doc struct {
		Specification *specification `json:"TPMSpecification,omitempty"`
		Attributes    *attributes    `json:"TPMAttributes,omitempty"`
	}
	if flags&infoSpecification != 0 {
		doc.Specification = &specification{id.Family, id.Level, id.Revision}
	}
	if flags&infoAttributes != 0 {
		doc.Attributes = &attributes{id.Manufacturer, id.Version, id.Model}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return []byte("{}") // strings and numbers: cannot happen
	}
	return text
}
