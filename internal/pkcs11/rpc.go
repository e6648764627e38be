package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The calls that signing needs, by p11-kit's numbers.
const (
	callError           = 0
	callInitialize      = 1
	callFinalize        = 2
	callGetSlotList     = 4
	callGetTokenInfo    = 6
	callOpenSession     = 10
	callLogin           = 18
	callGetAttribute    = 24
	callFindObjectsInit = 26
	callFindObjects     = 27
	callFindObjectsEnd  = 28
	callSignInit        = 42
	callSign            = 43
)

// handshake is what C_Initialize must carry.
const handshake = "PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1"

// maxAnswer bounds a message from the other side: attributes of a key are a few
// kilobytes, lists of objects as many.
const maxAnswer = 1 << 20

// conn is the protocol: one call, one answer.
type conn struct {
	rw io.ReadWriter
	id uint32
}

// dial exchanges versions: one byte each, and both go on with the smaller.
func dial(rw io.ReadWriter) (*conn, error) {
	if _, err := rw.Write([]byte{0}); err != nil {
		return nil, err
	}
	var version [1]byte
	if _, err := io.ReadFull(rw, version[:]); err != nil {
		return nil, fmt.Errorf("it ended without an answer, as it does when it cannot load the library (%w)", err)
	}
	if version[0] != 0 {
		return nil, fmt.Errorf("p11-kit speaks protocol version %d, not 0", version[0])
	}
	return &conn{rw: rw}, nil
}

// message is a call's arguments or an answer's results. The signature says the
// type of each, and must be exactly as expected.
type message struct {
	signature string
	b         []byte
	err       error
}

func (m *message) ulong(v uint64) *message {
	m.signature += "u"
	m.b = binary.BigEndian.AppendUint64(m.b, v)
	return m
}

func (m *message) byte(v byte) *message {
	m.signature += "y"
	m.b = append(m.b, v)
	return m
}

func (m *message) bytes(v []byte) *message {
	m.signature += "ay"
	m.b = append(m.b, 1)
	m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(v)))
	m.b = append(m.b, v...)
	return m
}

// room tells how much of an answer of that type ("fy", "fu") there is room for.
func (m *message) room(signature string, n uint32) *message {
	m.signature += signature
	m.b = binary.BigEndian.AppendUint32(m.b, n)
	return m
}

func (m *message) mechanism(typ uint32) *message {
	m.signature += "M"
	m.b = binary.BigEndian.AppendUint32(m.b, typ)
	m.b = binary.BigEndian.AppendUint32(m.b, 0) // no parameters
	return m
}

// matching is a template for C_FindObjectsInit.
func (m *message) matching(as []attribute) *message {
	m.signature += "aA"
	m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(as)))
	for _, a := range as {
		m.b = binary.BigEndian.AppendUint32(m.b, a.typ)
		m.b = append(m.b, 1)
		if a.isUlong() {
			m.b = binary.BigEndian.AppendUint32(m.b, 8)
			m.b = binary.BigEndian.AppendUint64(m.b, a.ulong)
			continue
		}
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(a.value)))
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(a.value)))
		m.b = append(m.b, a.value...)
	}
	return m
}

// asking names the attributes that C_GetAttributeValue shall return.
func (m *message) asking(types []uint32) *message {
	m.signature += "fA"
	m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(types)))
	for _, t := range types {
		size := uint32(maxAttribute)
		switch a := (attribute{typ: t}); {
		case a.isUlong():
			size = 8
		case a.isBool():
			size = 1
		}
		m.b = binary.BigEndian.AppendUint32(m.b, t)
		m.b = binary.BigEndian.AppendUint32(m.b, size)
	}
	return m
}

// maxAttribute is room for one attribute: a certificate at most.
const maxAttribute = 32 << 10

// Reading: the first thing that does not fit stays as the error.

func (m *message) fail(what string) {
	if m.err == nil {
		m.err = fmt.Errorf("p11-kit's answer: %s", what)
	}
	m.b = nil
}

func (m *message) want(signature string) bool {
	if m.err == nil && !strings.HasPrefix(m.signature, signature) {
		m.fail(fmt.Sprintf("%.32q where %s is expected", m.signature, signature))
	}
	m.signature = strings.TrimPrefix(m.signature, signature)
	return m.err == nil
}

func (m *message) take(n uint32) []byte {
	if uint64(n) > uint64(len(m.b)) {
		m.fail("it is cut short")
		return nil
	}
	out := m.b[:n:n]
	m.b = m.b[n:]
	return out
}

func (m *message) u32() uint32 {
	if b := m.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (m *message) u64() uint64 {
	if b := m.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (m *message) u8() byte {
	if b := m.take(1); b != nil {
		return b[0]
	}
	return 0
}

// array is "n, then n bytes"; all ones means that there is none.
func (m *message) array() []byte {
	n := m.u32()
	if n == 1<<32-1 {
		return nil
	}
	return m.take(n)
}

func (m *message) readUlong() uint64 {
	if !m.want("u") {
		return 0
	}
	return m.u64()
}

func (m *message) readBytes() []byte {
	if !m.want("ay") {
		return nil
	}
	if m.u8() == 0 { // only a length
		m.u32()
		return nil
	}
	return m.array()
}

func (m *message) readUlongs() []uint64 {
	if !m.want("au") {
		return nil
	}
	there, n := m.u8(), m.u32()
	if there == 0 || m.err != nil {
		return nil
	}
	if uint64(n)*8 > uint64(len(m.b)) {
		m.fail("it promises more than it has")
		return nil
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = m.u64()
	}
	return out
}

// readText is a string of fixed length, padded with blanks.
func (m *message) readText() string {
	if !m.want("s") {
		return ""
	}
	return strings.TrimRight(string(m.array()), " ")
}

func (m *message) readAttributes() map[uint32]attribute {
	out := map[uint32]attribute{}
	if !m.want("aA") {
		return out
	}
	for n := m.u32(); n > 0 && m.err == nil; n-- {
		a := attribute{typ: m.u32()}
		if m.u8() == 0 {
			continue // the object has not this one
		}
		m.u32() // the length in memory
		switch {
		case a.isUlong():
			a.ulong = m.u64()
		case a.isBool():
			a.value = []byte{m.u8()}
		default:
			a.value = m.array()
		}
		out[a.typ] = a
	}
	return out
}

// end wants everything read.
func (m *message) end() error {
	if m.err == nil && (m.signature != "" || len(m.b) > 0) {
		m.fail("something follows it")
	}
	return m.err
}

// call sends one call and returns its answer. An error of the library is an [Error].
func (c *conn) call(number uint32, args *message) (*message, error) {
	if args == nil {
		args = new(message)
	}
	c.id++
	body := binary.BigEndian.AppendUint32(nil, number)
	body = binary.BigEndian.AppendUint32(body, uint32(len(args.signature)))
	body = append(append(body, args.signature...), args.b...)
	var head []byte
	for _, v := range []uint32{c.id, 0, uint32(len(body))} {
		head = binary.BigEndian.AppendUint32(head, v)
	}
	defer clear(body) // a PIN may be in it
	defer clear(args.b)
	out := append(head, body...)
	defer clear(out)
	if _, err := c.rw.Write(out); err != nil {
		return nil, fmt.Errorf("speaking with p11-kit: %w", err)
	}
	var in [12]byte
	if _, err := io.ReadFull(c.rw, in[:]); err != nil {
		return nil, fmt.Errorf("speaking with p11-kit: %w", err)
	}
	id, options, size := binary.BigEndian.Uint32(in[:]), binary.BigEndian.Uint32(in[4:]), binary.BigEndian.Uint32(in[8:])
	if id != c.id || options > maxAnswer || size > maxAnswer {
		return nil, fmt.Errorf("speaking with p11-kit: answer %d of %d bytes to call %d", id, size, c.id)
	}
	answer := make([]byte, options+size)
	if _, err := io.ReadFull(c.rw, answer); err != nil {
		return nil, fmt.Errorf("speaking with p11-kit: %w", err)
	}
	return parseAnswer(number, answer[options:])
}

func parseAnswer(number uint32, b []byte) (*message, error) {
	m := &message{b: b}
	got := m.u32()
	m.signature = string(m.array())
	if m.err != nil {
		return nil, m.err
	}
	switch got {
	case number:
		return m, nil
	case callError:
		code := m.readUlong()
		if err := m.end(); err != nil {
			return nil, err
		}
		if code == 0 {
			return nil, errors.New("p11-kit's answer: an error that is none")
		}
		return nil, Error(code)
	}
	return nil, fmt.Errorf("p11-kit's answer is to call %d, not %d", got, number)
}
