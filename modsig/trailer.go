package modsig

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Magic ends a signed module (include/linux/module_signature.h).
const Magic = "~Module signature appended~\n"

// infoSize is the length of struct module_signature.
const infoSize = 12

// idPKCS7 is the only id_type the kernel still takes.
const idPKCS7 = 2

// Info is struct module_signature, in file order.
type Info struct {
	Algorithm       uint8 // must be 0
	Hash            uint8 // must be 0
	IDType          uint8 // must be 2, PKCS#7
	SignerLength    uint8 // must be 0
	KeyIDLength     uint8 // must be 0
	Padding         [3]byte
	SignatureLength uint32 // big-endian in the file
}

// Appended is a module cut at its trailer. All three slices alias the file.
type Appended struct {
	Content   []byte // what the signature is over
	Signature []byte // the CMS; nil when Info does not describe one
	Info      Info
	// Signed says that the magic line ends the file. Without it the kernel
	// takes the whole file for an unsigned module.
	Signed bool
	// Behind counts the bytes after a magic line near the end of the file:
	// the kernel then sees no signature at all.
	Behind int
}

// Split cuts a module at its trailer. It fails in no way: what the kernel
// would find wrong is left to [Check] to name.
func Split(file []byte) Appended {
	if !bytes.HasSuffix(file, []byte(Magic)) {
		a := Appended{Content: file}
		// A newline or a padded block, as editors and transfer tools append.
		tail := file[max(0, len(file)-4096):]
		if i := bytes.LastIndex(tail, []byte(Magic)); i >= 0 {
			a.Behind = len(tail) - i - len(Magic)
		}
		return a
	}
	a := Appended{Signed: true}
	body := file[:len(file)-len(Magic)]
	a.Content = body
	if len(body) <= infoSize {
		return a
	}
	raw := body[len(body)-infoSize:]
	a.Info = Info{raw[0], raw[1], raw[2], raw[3], raw[4], [3]byte(raw[5:8]), binary.BigEndian.Uint32(raw[8:])}
	rest := len(body) - infoSize
	if a.Info.IDType != idPKCS7 || uint64(a.Info.SignatureLength) >= uint64(rest) {
		return a // the kernel takes only the magic line off such a file
	}
	cut := rest - int(a.Info.SignatureLength)
	a.Content, a.Signature = body[:cut:cut], body[cut:rest:rest]
	return a
}

// tooLong tells whether the trailer promises more than the file has.
func (a Appended) tooLong() bool {
	return a.Signature == nil && uint64(a.Info.SignatureLength)+infoSize >= uint64(len(a.Content))
}

// Append returns content followed by a signature and its trailer.
func Append(content, cms []byte) ([]byte, error) {
	if len(cms) > MaxSignature {
		return nil, fmt.Errorf("a signature of %d bytes is over the limit of %d", len(cms), MaxSignature)
	}
	out := make([]byte, 0, len(content)+len(cms)+infoSize+len(Magic))
	out = append(out, content...)
	out = append(out, cms...)
	out = append(out, 0, 0, idPKCS7, 0, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(cms)))
	return append(out, Magic...), nil
}
