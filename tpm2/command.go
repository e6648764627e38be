package tpm2

import "slices"

// Role is what an authorization is for (Part 1, 16.2).
type Role uint8

const (
	RoleNone Role = iota // no authorization
	RoleUser
	RoleAdmin
	RoleDup
)

// HandleInfo describes one handle of a command's handle area.
type HandleInfo struct {
	Name string
	Type HandleType
	Null bool // the type's null value is allowed
	Role Role
}

// CommandInfo is what Part 3 says of a command, besides what it does.
type CommandInfo struct {
	Code           CC
	Name           string // NV_Read for TPM2_NV_Read
	Handles        []HandleInfo
	ResponseHandle bool
	NV             bool // may write NV
	Extensive      bool // may flush any number of contexts
	Flushed        bool // flushes the context of one of its handles
	NoSessions     bool // takes no session at all
	Decrypt        bool // its first parameter may come encrypted
	Encrypt        bool // its first response parameter may be encrypted

	NewCommand  func() Command
	NewResponse func() Response
}

// Info returns the description of a command, or nil for one this package does not know.
func Info(cc CC) *CommandInfo {
	if c, ok := byCode[cc]; ok {
		return c
	}
	return nil
}

var byCode = func() map[CC]*CommandInfo {
	m := make(map[CC]*CommandInfo, len(commands))
	for i := range commands {
		m[commands[i].Code] = &commands[i]
	}
	return m
}()

// Infos returns the descriptions of all commands this package knows, by code.
func Infos() []*CommandInfo {
	out := make([]*CommandInfo, 0, len(commands))
	for i := range commands {
		out = append(out, &commands[i])
	}
	slices.SortFunc(out, func(a, b *CommandInfo) int { return int(a.Code) - int(b.Code) })
	return out
}

// Attributes is the command's TPMA_CC (Part 2, 8.9).
func (c *CommandInfo) Attributes() CCAttributes {
	a := CCAttributes(c.Code&0xffff) | CCAttributes(len(c.Handles))<<25
	for bit, set := range map[int]bool{22: c.NV, 23: c.Extensive, 24: c.Flushed, 28: c.ResponseHandle} {
		if set {
			a |= 1 << bit
		}
	}
	return a
}

// Auths is the number of handles that need authorization.
func (c *CommandInfo) Auths() int {
	n := 0
	for _, h := range c.Handles {
		if h.Role != RoleNone {
			n++
		}
	}
	return n
}

// Command is one of the command structures, such as *[Create].
type Command interface {
	CommandCode() CC
	SetHandles([]Handle)
	AppendHandles([]Handle) []Handle
	DecodeParameters(*Decoder)
	EncodeParameters(*Encoder)
}

// Response is one of the response structures, such as *[CreateResponse].
type Response interface {
	HandleField() *Handle // where the response handle goes, nil when there is none
	DecodeParameters(*Decoder)
	EncodeParameters(*Encoder)
}
