// Package backup seals a whole service into one file, and opens it again.
//
// The file is sealed by HPKE (RFC 9180, X25519 with ML-KEM-768) to a key pair
// that derives from the recovery key, which is kept away from the machine: the
// service can write backups and cannot read them. An HMAC under a second key
// from the same source says that the service itself wrote it; anybody could
// encrypt to a public key.
//
// It knows a list of named files and nothing of what is in them. Before a byte
// of a backup is used, the whole file is authenticated.
//
// Begin with [Recipient.Seal] and [Open]. docs/formats/backup.md has the bytes.
package backup

import (
	"archive/tar"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Limits, and why.
const (
	// chunkSize is what is sealed at once: small in memory, large beside its tag.
	chunkSize = 64 << 10
	// maxFiles: a service has some dozens, and an audit segment for every 4 MiB.
	maxFiles = 1 << 20
)

const (
	magic   = "vouchsafe-backup-1\n"
	info    = "vouchsafe backup v1"
	macSize = sha512.Size384
	aadMore = "more"
	aadLast = "last"
)

func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// Recipient is what a service keeps in order to write backups.
type Recipient struct {
	Public []byte       // HPKE public key
	MAC    secret.Bytes // says that the service wrote it
}

// NewRecipient derives it from the recovery key.
func NewRecipient(recovery secret.Bytes) (Recipient, error) {
	priv, mac, err := keys(recovery)
	if err != nil {
		return Recipient{}, err
	}
	return Recipient{priv.PublicKey().Bytes(), mac}, nil
}

func keys(recovery secret.Bytes) (hpke.PrivateKey, secret.Bytes, error) {
	seed := derive.Key(recovery, derive.BackupKEM, 64)
	defer seed.Erase()
	kem, _, _ := suite()
	priv, err := kem.DeriveKeyPair(seed.Reveal())
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("deriving the backup key: %w", err)
	}
	return priv, derive.Key(recovery, derive.BackupMAC, 32), nil
}

// File is one file of a backup.
type File struct {
	Name    string // with slashes, below the state directory
	Size    int64
	Content io.Reader
}

// ErrNotOurs means that the file was not written by this service, was sealed
// to another recovery key, or was changed or cut since.
var ErrNotOurs = errors.New("this is no whole backup of a service with this recovery key")

// checkName keeps a backup from writing anywhere else.
func checkName(name string) error {
	if name == "" || len(name) > 255 || path.Clean(name) != name || path.IsAbs(name) || strings.HasPrefix(name, "..") || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("%q is no file name for a backup", name)
	}
	return nil
}

// Seal writes a backup of files to w. next returns one file after the other
// and io.EOF after the last.
func (r Recipient) Seal(w io.Writer, now time.Time, next func() (File, error)) error {
	fail := func(err error) error { return fmt.Errorf("writing the backup: %w", err) }
	kem, kdf, aead := suite()
	pub, err := kem.NewPublicKey(r.Public)
	if err != nil {
		return fail(err)
	}
	enc, sender, err := hpke.NewSender(pub, kdf, aead, []byte(info))
	if err != nil {
		return fail(err)
	}
	mac := hmac.New(sha512.New384, r.MAC.Reveal())
	out := io.MultiWriter(w, mac)
	head := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(enc)))
	if _, err := out.Write(append(head, enc...)); err != nil {
		return fail(err)
	}
	cw := &chunks{w: out, sender: sender}
	tw := tar.NewWriter(cw)
	for n := 0; ; n++ {
		f, err := next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = checkName(f.Name)
		}
		if n >= maxFiles {
			err = fmt.Errorf("more than %d files", maxFiles)
		}
		if err != nil {
			return fail(err)
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o600, Size: f.Size, ModTime: now, Format: tar.FormatPAX}); err != nil {
			return fail(err)
		}
		// A file that grows while it is read (the audit log does) is cut at the size it had.
		if _, err := io.CopyN(tw, f.Content, f.Size); err != nil {
			return fail(fmt.Errorf("%s: %w", f.Name, err))
		}
	}
	if err := tw.Close(); err != nil {
		return fail(err)
	}
	if err := cw.last(); err != nil {
		return fail(err)
	}
	if _, err := w.Write(mac.Sum(nil)); err != nil {
		return fail(err)
	}
	return nil
}

// chunks seals what is written to it, chunk by chunk.
type chunks struct {
	w      io.Writer
	sender *hpke.Sender
	buf    []byte
}

func (c *chunks) Write(p []byte) (int, error) {
	c.buf = append(c.buf, p...)
	for len(c.buf) > chunkSize { // never the last one: that has its own mark
		if err := c.seal(aadMore, c.buf[:chunkSize]); err != nil {
			return 0, err
		}
		c.buf = append(c.buf[:0], c.buf[chunkSize:]...)
	}
	return len(p), nil
}

func (c *chunks) last() error { return c.seal(aadLast, c.buf) }

func (c *chunks) seal(aad string, p []byte) error {
	ct, err := c.sender.Seal([]byte(aad), p)
	if err != nil {
		return err
	}
	_, err = c.w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(ct))), ct...))
	return err
}

// Open authenticates the whole backup in r, which has size bytes, and then
// calls each with its files in turn.
func Open(r io.ReaderAt, size int64, recovery secret.Bytes, each func(name string, size int64, content io.Reader) error) error {
	fail := func(err error) error { return fmt.Errorf("opening the backup: %w", err) }
	priv, macKey, err := keys(recovery)
	if err != nil {
		return fail(err)
	}
	if size < int64(len(magic))+macSize {
		return fail(ErrNotOurs)
	}
	if err := authentic(io.NewSectionReader(r, 0, size-macSize), io.NewSectionReader(r, size-macSize, macSize), hmac.New(sha512.New384, macKey.Reveal())); err != nil {
		return fail(err)
	}
	// From here on the bytes are our own; they are read strictly all the same.
	body := io.NewSectionReader(r, 0, size-macSize)
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(body, head); err != nil || string(head[:len(magic)]) != magic {
		return fail(ErrNotOurs)
	}
	n := binary.BigEndian.Uint32(head[len(magic):])
	if n > 4096 {
		return fail(ErrNotOurs)
	}
	enc := make([]byte, n)
	if _, err := io.ReadFull(body, enc); err != nil {
		return fail(ErrNotOurs)
	}
	_, kdf, aead := suite()
	recipient, err := hpke.NewRecipient(enc, priv, kdf, aead, []byte(info))
	if err != nil {
		return fail(ErrNotOurs)
	}
	tr := tar.NewReader(&opened{r: body, recipient: recipient})
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fail(err)
		}
		if n >= maxFiles || h.Typeflag != tar.TypeReg {
			return fail(fmt.Errorf("%s is no plain file, or one too many", h.Name))
		}
		if err := checkName(h.Name); err != nil {
			return fail(err)
		}
		if err := each(h.Name, h.Size, tr); err != nil {
			return fail(err)
		}
	}
}

func authentic(body, tag io.Reader, mac hash.Hash) error {
	if _, err := io.Copy(mac, body); err != nil {
		return err
	}
	want := make([]byte, macSize)
	if _, err := io.ReadFull(tag, want); err != nil {
		return err
	}
	if !hmac.Equal(want, mac.Sum(nil)) {
		return ErrNotOurs
	}
	return nil
}

// opened is the plain text of a sequence of chunks.
type opened struct {
	r         *io.SectionReader
	recipient *hpke.Recipient
	plain     []byte
	done      bool
}

func (o *opened) Read(p []byte) (int, error) {
	for len(o.plain) == 0 {
		if o.done {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

func (o *opened) next() error {
	var length [4]byte
	if _, err := io.ReadFull(o.r, length[:]); err != nil {
		return ErrNotOurs // the last chunk never came
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 16 || n > chunkSize+16 {
		return ErrNotOurs
	}
	ct := make([]byte, n)
	if _, err := io.ReadFull(o.r, ct); err != nil {
		return ErrNotOurs
	}
	// The last chunk is the one with nothing behind it, and must say so.
	aad := aadMore
	at, err := o.r.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if o.done = at == o.r.Size(); o.done {
		aad = aadLast
	}
	if o.plain, err = o.recipient.Open([]byte(aad), ct); err != nil {
		return ErrNotOurs
	}
	return nil
}
