package chainnet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// maxLine and maxLines bound what a server may say before TLS begins.
const (
	maxLine  = 4096
	maxLines = 100
)

// Protocols lists what StartTLS knows.
var Protocols = []string{"smtp", "imap", "pop3", "ftp", "xmpp", "postgres", "mysql", "ldap"}

// startTLS speaks the plain part of a protocol until TLS may begin. host is the
// name asked for: XMPP has virtual hosts.
func startTLS(conn net.Conn, protocol, host string) error {
	d := &dialogue{conn: conn, r: bufio.NewReaderSize(conn, maxLine)}
	var err error
	switch protocol {
	case "":
	case "smtp": // RFC 3207
		err = d.steps(step{"", "220"}, step{"EHLO vouchsafe.invalid", "250"}, step{"STARTTLS", "220"})
	case "ftp": // RFC 4217
		err = d.steps(step{"", "220"}, step{"AUTH TLS", "234"})
	case "pop3": // RFC 2595
		err = d.steps(step{"", "+OK"}, step{"STLS", "+OK"})
	case "imap": // RFC 3501, Section 6.2.1
		if err = d.steps(step{"", "* OK"}); err == nil {
			err = d.imap()
		}
	case "xmpp": // RFC 6120, Section 5
		err = d.xmpp(host)
	case "postgres": // protocol 3, SSLRequest
		err = d.exchange([]byte{0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F}, func(b byte) bool { return b == 'S' })
	case "ldap": // RFC 4511, Section 4.14: ExtendedRequest 1.3.6.1.4.1.1466.20037
		err = d.ldap()
	case "mysql":
		err = d.mysql()
	default:
		return fmt.Errorf("no STARTTLS for %q; known are %s", protocol, strings.Join(Protocols, ", "))
	}
	if err != nil {
		return fmt.Errorf("starting TLS in %s: %w", protocol, err)
	}
	if d.r.Buffered() > 0 {
		// CVE-2011-0411: bytes sent before TLS would be taken for bytes inside it.
		return fmt.Errorf("starting TLS in %s: the server sent more than its answer", protocol)
	}
	return nil
}

type dialogue struct {
	conn net.Conn
	r    *bufio.Reader
}

type step struct{ send, want string }

// steps sends lines and wants answers that start with a word; answers of
// several lines (250-…) are read to their end.
func (d *dialogue) steps(list ...step) error {
	for _, s := range list {
		if s.send != "" {
			if _, err := io.WriteString(d.conn, s.send+"\r\n"); err != nil {
				return err
			}
		}
		for n := 0; ; n++ {
			line, err := d.line()
			if err != nil {
				return err
			}
			if n > maxLines || !strings.HasPrefix(line, s.want) {
				return fmt.Errorf("the server says %.80q", line)
			}
			if len(s.want) == 3 && s.want[0] != '+' && len(line) > 3 && line[3] == '-' {
				continue
			}
			break
		}
	}
	return nil
}

func (d *dialogue) line() (string, error) {
	b, err := d.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("the server's line is too long")
	}
	return strings.TrimRight(string(b), "\r\n"), err
}

func (d *dialogue) imap() error {
	if _, err := io.WriteString(d.conn, "a1 STARTTLS\r\n"); err != nil {
		return err
	}
	for range maxLines {
		line, err := d.line()
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, "a1 "); ok {
			if strings.HasPrefix(rest, "OK") {
				return nil
			}
			return fmt.Errorf("the server says %.80q", line)
		}
	}
	return errors.New("the server does not come to an end")
}

func (d *dialogue) xmpp(host string) error {
	hello := "<?xml version='1.0'?><stream:stream to='" + xmlSafe(host) + "' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
	if _, err := io.WriteString(d.conn, hello); err != nil {
		return err
	}
	if err := d.until("</stream:features>"); err != nil {
		return err
	}
	if _, err := io.WriteString(d.conn, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	return d.until("<proceed")
}

// until reads to a mark, and then to the end of that tag.
func (d *dialogue) until(mark string) error {
	var seen []byte
	for len(seen) < 16*maxLine {
		b, err := d.r.ReadByte()
		if err != nil {
			return err
		}
		seen = append(seen, b)
		switch {
		case b != '>':
		case bytes.Contains(seen[max(0, len(seen)-200):], []byte(mark)):
			return nil
		case bytes.Contains(seen, []byte("<failure")):
			return errors.New("the server refuses")
		case bytes.HasSuffix(seen, []byte("</stream:error>")):
			// RFC 6120, Section 4.9: host-unknown, most often.
			at := bytes.LastIndex(seen, []byte("<stream:error>"))
			return fmt.Errorf("the server says %.200q", seen[max(at, 0):])
		}
	}
	return errors.New("the server does not come to an end")
}

func xmlSafe(s string) string {
	return strings.NewReplacer("&", "&amp;", "'", "&apos;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func (d *dialogue) exchange(send []byte, ok func(byte) bool) error {
	if _, err := d.conn.Write(send); err != nil {
		return err
	}
	b, err := d.r.ReadByte()
	if err == nil && !ok(b) {
		err = fmt.Errorf("the server answers %q", b)
	}
	return err
}

func (d *dialogue) ldap() error {
	oid := "1.3.6.1.4.1.1466.20037"
	req := append([]byte{0x30, byte(7 + len(oid)), 0x02, 0x01, 0x01, 0x77, byte(2 + len(oid)), 0x80, byte(len(oid))}, oid...)
	if _, err := d.conn.Write(req); err != nil {
		return err
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(d.r, head); err != nil {
		return err
	}
	n := int(head[1])
	if n&0x80 != 0 {
		long := make([]byte, n&0x7F)
		if len(long) > 2 {
			return errors.New("the server's answer is too long")
		}
		if _, err := io.ReadFull(d.r, long); err != nil {
			return err
		}
		n = 0
		for _, b := range long {
			n = n<<8 | int(b)
		}
	}
	if head[0] != 0x30 || n > maxLine {
		return errors.New("the server speaks no LDAP")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(d.r, body); err != nil {
		return err
	}
	// ExtendedResponse with resultCode success: 78 len 0A 01 00
	for i := 0; i+4 < len(body); i++ {
		if body[i] == 0x78 {
			for j := i + 2; j+2 < len(body) && j < i+6; j++ {
				if body[j] == 0x0A && body[j+1] == 1 {
					if body[j+2] == 0 {
						return nil
					}
					return fmt.Errorf("the server refuses with result code %d", body[j+2])
				}
			}
		}
	}
	return errors.New("the server refuses")
}

// mysql answers the server's greeting with an SSLRequest (protocol 4.1).
func (d *dialogue) mysql() error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(d.r, head); err != nil {
		return err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n == 0 || n > maxLine {
		return errors.New("the server speaks no MySQL")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(d.r, body); err != nil {
		return err
	}
	if body[0] == 0xFF {
		return fmt.Errorf("the server refuses: %.80q", body[min(3, n):])
	}
	// version NUL, thread id 4, salt 8, filler 1, capabilities 2
	i := strings.IndexByte(string(body), 0)
	if i < 0 || i+16 > n {
		return errors.New("the server speaks no MySQL 4.1")
	}
	const clientSSL = 0x0800
	if caps := binary.LittleEndian.Uint16(body[i+14:]); caps&clientSSL == 0 {
		return errors.New("the server has TLS switched off")
	}
	req := make([]byte, 4+32)
	req[0], req[3] = 32, head[3]+1
	binary.LittleEndian.PutUint32(req[4:], 0x0200|0x8000|clientSSL) // PROTOCOL_41, SECURE_CONNECTION, SSL
	binary.LittleEndian.PutUint32(req[8:], 1<<24)
	req[12] = 0x21 // utf8
	_, err := d.conn.Write(req)
	return err
}
