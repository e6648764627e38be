package differential

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A TPM is one of the two that are compared.
type TPM interface {
	Execute(locality uint8, cmd []byte) ([]byte, error)
	PowerCycle() error // without TPM2_Shutdown
	Suspend() error    // the volatile state taken out, and a TPM made anew that goes on with it
	Close()
}

// A slot keeps an answer under a name.
type slot struct {
	handle  uint32
	fields  map[string][]byte // response parameters by name, as they were on the wire
	session *session
}

// A side is one TPM with what a sequence has got from it so far.
type side struct {
	label string
	tpm   TPM
	slots map[string]*slot

	binding *binding // what the StartAuthSession being rendered says of its session
}

// binding collects what only the caller of StartAuthSession knows.
type binding struct{ salt, auth []byte }

func newSide(label string, t TPM) *side {
	return &side{label: label, tpm: t, slots: map[string]*slot{}}
}

// A rendered command is ready to send, with what is needed to read the answer.
type rendered struct {
	wire    []byte
	info    *tpm2.CommandInfo // nil for a code that is no command
	handles []uint32
	params  []byte // in clear
	auths   []*auth
	binding binding
}

// An answer is a response taken apart.
type answer struct {
	rc     uint32
	tag    uint16
	handle uint32
	fields []field
	wire   []byte
	fault  string // what is wrong with the response itself, for instance its HMAC
}

type field struct {
	name, typ string
	b         []byte
}

var permanent = map[string]uint32{
	"owner": 0x40000001, "null": 0x40000007, "pw": 0x40000009, "lockout": 0x4000000a, "endorsement": 0x4000000b,
	"platform": 0x4000000c, "platformnv": 0x4000000d,
}

func (s *side) handle(tok string) (uint32, error) {
	if h, ok := permanent[tok]; ok {
		return h, nil
	}
	if n, ok := strings.CutPrefix(tok, "pcr"); ok {
		v, err := strconv.ParseUint(n, 10, 32)
		return uint32(v), err
	}
	if strings.HasPrefix(tok, "$") {
		sl := s.slots[tok[1:]]
		if sl == nil {
			return 0, errNoSlot
		}
		return sl.handle, nil
	}
	b, err := s.bytes(tok)
	if err == nil && len(b) != 4 {
		err = fmt.Errorf("handle %s has %d octets", tok, len(b))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// codes are the commands by the names that sequences use.
var codes = func() map[string]*tpm2.CommandInfo {
	m := map[string]*tpm2.CommandInfo{}
	for _, c := range tpm2.Infos() {
		m[c.Name] = c
	}
	return m
}()

func (s *side) render(st Step) (*rendered, error) {
	r := &rendered{info: codes[st.Command]}
	s.binding = &r.binding
	var code uint32
	if r.info != nil {
		code = uint32(r.info.Code)
	} else {
		n, err := strconv.ParseUint(st.Command, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("no command %s", st.Command)
		}
		code = uint32(n)
		r.info = tpm2.Info(tpm2.CC(n))
	}
	var area []byte
	for _, tok := range st.Handles {
		h, err := s.handle(tok)
		if err != nil {
			return nil, err
		}
		r.handles = append(r.handles, h)
		area = append(area, u32(h)...)
	}
	for _, tok := range st.Params {
		b, err := s.bytes(tok)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tok, err)
		}
		r.params = append(r.params, b...)
	}
	f, err := readFaults(st.Faults)
	if err != nil {
		return nil, err
	}
	if f.flipMask != 0 && len(r.params) > 0 {
		r.params[f.flipAt%len(r.params)] ^= f.flipMask
	}
	if f.cut > 0 {
		r.params = r.params[:max(0, len(r.params)-f.cut)]
	}
	r.params = append(r.params, f.extra...)
	tag := uint16(tpm2.STNoSessions)
	if len(st.Auths) > 0 {
		tag = uint16(tpm2.STSessions)
		for _, tok := range st.Auths {
			a, err := s.readAuth(tok)
			if err != nil {
				return nil, err
			}
			r.auths = append(r.auths, a)
		}
		b, err := s.authorize(code, r)
		if err != nil {
			return nil, err
		}
		area = append(area, u32(uint32(int(int32(len(b))+f.authSize)))...)
		area = append(area, b...)
	}
	area = append(area, s.encrypted(r)...)
	if f.tag != 0 {
		tag = f.tag
	}
	wire := append(append(u16(tag), u32(uint32(10+len(area)))...), u32(code)...)
	wire = append(wire, area...)
	if f.size != 0 {
		binary.BigEndian.PutUint32(wire[2:], uint32(int(len(wire))+f.size))
	}
	r.wire = wire
	return r, nil
}

type faults struct {
	tag      uint16
	size     int
	authSize int32
	cut      int
	extra    []byte
	flipAt   int
	flipMask byte
}

// readFaults reads tag=8001 size=+1 authsize=-1 cut=N extra=HEX flip=AT^MASK.
func readFaults(words []string) (f faults, err error) {
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		var n int64
		switch k {
		case "tag":
			var t uint64
			t, err = strconv.ParseUint(v, 16, 16)
			f.tag = uint16(t)
		case "size":
			n, err = strconv.ParseInt(v, 10, 31)
			f.size = int(n)
		case "authsize":
			n, err = strconv.ParseInt(v, 10, 31)
			f.authSize = int32(n)
		case "cut":
			n, err = strconv.ParseInt(v, 10, 31)
			f.cut = int(n)
		case "extra":
			f.extra, err = hex.DecodeString(v)
		case "flip":
			at, mask, _ := strings.Cut(v, "^")
			f.flipAt, err = strconv.Atoi(at)
			m, err2 := strconv.ParseUint(mask, 16, 8)
			f.flipMask, err = byte(m), errors.Join(err, err2)
		default:
			err = fmt.Errorf("unknown fault %q", w)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// run sends a step and takes the answer apart.
func (s *side) run(st Step, r *rendered) (*answer, error) {
	var loc uint8
	if st.Locality != "" {
		n, err := strconv.ParseUint(st.Locality, 10, 8)
		if err != nil {
			return nil, err
		}
		loc = uint8(n)
	}
	var rsp []byte
	var err error
	for try := 0; ; try++ {
		if rsp, err = s.tpm.Execute(loc, r.wire); err != nil {
			if c := (*crash)(nil); errors.As(err, &c) {
				return &answer{fault: fmt.Sprintf("%v\n%s", c, c.stack)}, nil
			}
			return nil, fmt.Errorf("%s: %w", s.label, err)
		}
		// TPM_RC_RETRY asks for just that; libtpms answers it at random under load.
		if len(rsp) < 10 || binary.BigEndian.Uint32(rsp[6:]) != uint32(tpm2.RCRetry) || try == 20 {
			break
		}
	}
	a := s.read(r, rsp)
	if a.rc == 0 && st.Save != "" && st.Save != flushed {
		s.save(st, r, a)
	}
	return a, nil
}

// read takes a response apart: header, handle, parameters, authorizations.
func (s *side) read(r *rendered, rsp []byte) *answer {
	a := &answer{wire: rsp}
	if len(rsp) < 10 || int(binary.BigEndian.Uint32(rsp[2:])) != len(rsp) {
		a.fault = fmt.Sprintf("a response of %d octets whose header says otherwise", len(rsp))
		return a
	}
	a.tag, a.rc = binary.BigEndian.Uint16(rsp), binary.BigEndian.Uint32(rsp[6:])
	if a.rc != 0 {
		if len(rsp) != 10 {
			a.fault = "an error with more than a header"
		}
		return a
	}
	rest := rsp[10:]
	if r.info == nil {
		return a
	}
	if r.info.ResponseHandle {
		if len(rest) < 4 {
			a.fault = "no response handle"
			return a
		}
		a.handle, rest = binary.BigEndian.Uint32(rest), rest[4:]
	}
	params := rest
	if a.tag == uint16(tpm2.STSessions) {
		if len(rest) < 4 || int(binary.BigEndian.Uint32(rest)) > len(rest)-4 {
			a.fault = "parameterSize is wrong"
			return a
		}
		n := int(binary.BigEndian.Uint32(rest))
		params = rest[4 : 4+n]
		a.fault = s.checkAuths(r, a, params, rest[4+n:])
		params = s.decrypted(r, params)
	}
	for _, f := range responses[r.info.Name] {
		n, err := fieldSize(f.typ, params)
		if err != nil || n > len(params) {
			a.fault = fmt.Sprintf("response parameter %s does not parse", f.name)
			return a
		}
		a.fields = append(a.fields, field{f.name, f.typ, params[:n]})
		params = params[n:]
	}
	if len(params) != 0 && a.fault == "" {
		a.fault = fmt.Sprintf("%d octets after the response parameters", len(params))
	}
	return a
}

func (s *side) save(st Step, r *rendered, a *answer) {
	sl := &slot{handle: a.handle, fields: map[string][]byte{}}
	for _, f := range a.fields {
		sl.fields[f.name] = f.b
	}
	if r.info != nil && r.info.Code == tpm2.CCStartAuthSession {
		sl.session = newSession(r, a)
	}
	if r.info != nil && r.info.Code == tpm2.CCContextLoad {
		for _, old := range s.slots { // a session comes back under its own handle
			if old.session != nil && old.handle == a.handle {
				sl.session = old.session
			}
		}
	}
	s.slots[st.Save] = sl
}

// aside sends a command that is no part of the sequence.
func (s *side) aside(code tpm2.CC, area []byte) []byte {
	wire := append(append(u16(uint16(tpm2.STNoSessions)), u32(uint32(10+len(area)))...), u32(uint32(code))...)
	rsp, err := s.tpm.Execute(0, append(wire, area...))
	if err != nil || len(rsp) < 10 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		return nil
	}
	return rsp[10:]
}

// nameOf asks for the Name of an entity, as cpHash and policies need it (Part 1, 13).
func (s *side) nameOf(h uint32) []byte {
	second := func(b []byte) []byte { // the second of two sized buffers
		if len(b) < 2 {
			return nil
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		if len(b) < n+2 {
			return nil
		}
		m := int(binary.BigEndian.Uint16(b[n:]))
		return b[n+2 : min(n+2+m, len(b))]
	}
	switch h >> 24 {
	case 0x80, 0x81:
		return second(s.aside(tpm2.CCReadPublic, u32(h)))
	case 0x01:
		if n := second(s.aside(tpm2.CCNVReadPublic, u32(h))); n != nil {
			return n
		}
	}
	return u32(h)
}

// publicOf asks for the public area of an object.
func (s *side) publicOf(h uint32) (*tpm2.TPMTPublic, error) {
	b := s.aside(tpm2.CCReadPublic, u32(h))
	if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
		return nil, errNoSlot
	}
	var p tpm2.TPMTPublic
	err := tpm2.Unmarshal(b[2:2+int(binary.BigEndian.Uint16(b))], &p)
	return &p, err
}

// nameFunc is name(HANDLE).
func (s *side) nameFunc(args []expr) ([]byte, error) {
	h, err := s.handle(args[0].word)
	if err != nil {
		return nil, err
	}
	return s.nameOf(h), nil
}
