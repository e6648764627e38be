package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
)

// IMAEntry is one line of Linux's IMA measurement list: a file, a key or a
// policy that the kernel measured before it used it.
type IMAEntry struct {
	PCR      uint32
	Template string // "ima-ng", "ima-sig", "ima-buf", …, or a list of fields "d-ng|n-ng"
	SHA1     []byte // the template hash of the SHA-1 bank; zeros: a violation
	Data     []byte // the template's fields, as they are hashed

	FileAlg  string // "sha256": of the file's digest
	FileHash []byte
	Name     string // a path, or what else was measured; the kernel saw it, so it is authenticated with the entry

	// ModSig is the CMS signature appended to a module or a kernel, and ModAlg
	// and ModHash what it is over: only template "ima-modsig" has them.
	ModSig  []byte
	ModAlg  string
	ModHash []byte

	third []byte // the template's third field: a signature, or the buffer measured
}

// Buffer reports an entry that is not about a file: a key, a command line, a
// policy (template "ima-buf"). The template's name is not in what is hashed, so
// anybody can change it in the list; what counts is that the entry brings what
// it is the digest of. A file's entry has the file's security.ima there, which the
// kernel includes only when it begins with the byte of a signature.
func (e *IMAEntry) Buffer() bool {
	a, err := ParseAlg(e.FileAlg)
	return err == nil && a.Available() && len(e.third) > 0 && !e.Violation() && bytes.Equal(a.Sum(e.third), e.FileHash)
}

// Violation reports an entry for which the kernel could not promise that
// the file was not being written; it extends ones instead (IMA documentation,
// "ToMToU" and "open writers").
func (e *IMAEntry) Violation() bool { return len(bytes.Trim(e.SHA1, "\x00")) == 0 }

// EachIMA reads /sys/kernel/security/ima/binary_runtime_measurements of a
// little-endian machine, entry by entry; it ends after the first error, a
// [*SyntaxError]. The entries point into data.
func EachIMA(data []byte) iter.Seq2[*IMAEntry, error] {
	return func(yield func(*IMAEntry, error) bool) {
		if len(data) > MaxIMASize {
			yield(nil, &SyntaxError{-1, 0, fmt.Sprintf("%d bytes; the limit is %d", len(data), MaxIMASize)})
			return
		}
		for off, i := 0, 0; off < len(data); i++ {
			if i == MaxIMAEntries {
				yield(nil, &SyntaxError{i, off, fmt.Sprintf("more than %d entries", MaxIMAEntries)})
				return
			}
			e, n, reason := imaEntry(data[off:])
			if reason != "" {
				yield(nil, &SyntaxError{i, off, reason})
				return
			}
			if !yield(&e, nil) {
				return
			}
			off += n
		}
	}
}

// ParseIMA reads the whole list.
func ParseIMA(data []byte) ([]IMAEntry, error) {
	var out []IMAEntry
	for e, err := range EachIMA(data) {
		if err != nil {
			return nil, err
		}
		out = append(out, *e)
	}
	return out, nil
}

// imaEntry reads one entry and its length, or says what is wrong.
// The layout is ima_measurements_show in the kernel: PCR, SHA-1 template hash,
// name length, name, and for all templates but "ima" the data's length; then
// the fields, each with its length.
func imaEntry(d []byte) (e IMAEntry, n int, reason string) {
	if len(d) < 28 {
		return e, 0, "the list ends within an entry's head"
	}
	e.PCR, e.SHA1 = binary.LittleEndian.Uint32(d), d[4:24:24]
	if e.PCR > MaxPCR {
		return e, 0, fmt.Sprintf("PCR %d; a PC has 0 to %d", e.PCR, MaxPCR)
	}
	k := binary.LittleEndian.Uint32(d[24:])
	if k == 0 || k > MaxIMAName || int(k) > len(d)-28 {
		return e, 0, fmt.Sprintf("a template name of %d bytes", k)
	}
	e.Template = string(d[28 : 28+k])
	n = 28 + int(k)
	d = d[n:]
	if e.Template == "ima" {
		// The oldest template: a SHA-1 digest, then a name with its length.
		if len(d) < 24 {
			return e, 0, "the list ends within an entry"
		}
		k := binary.LittleEndian.Uint32(d[20:])
		if k > MaxIMAName+1 || int(k) > len(d)-24 {
			return e, 0, fmt.Sprintf("a name of %d bytes", k)
		}
		e.FileAlg, e.FileHash, e.Name = "sha1", d[:20:20], string(d[24:24+k])
		e.Data = d[: 24+k : 24+k]
		return e, n + 24 + int(k), ""
	}
	if len(d) < 4 {
		return e, 0, "the list ends within an entry"
	}
	k = binary.LittleEndian.Uint32(d)
	if int64(k) > int64(len(d)-4) {
		return e, 0, fmt.Sprintf("%d bytes of template data are promised, %d are left", k, len(d)-4)
	}
	e.Data = d[4 : 4+k : 4+k]
	return e, n + 4 + int(k), e.fields()
}

// fields reads the first two fields, which nearly every template has: the
// digest and the name. It walks the rest, so that the lengths are known to be right.
func (e *IMAEntry) fields() string {
	d, n := e.Data, 0
	var mod, sig []byte
	for i := 0; len(d) > 0; i++ {
		n++
		if len(d) < 4 {
			return "a template field is cut short"
		}
		k := binary.LittleEndian.Uint32(d)
		if k > MaxIMAField || int(k) > len(d)-4 {
			return fmt.Sprintf("a template field of %d bytes", k)
		}
		f := d[4 : 4+k]
		d = d[4+k:]
		switch i {
		case 0:
			e.FileAlg, e.FileHash = imaDigest(f)
		case 1: // n-ng: a name with its NUL
			e.Name = strings.TrimSuffix(string(f), "\x00")
		case 2:
			e.third = f
		case 3:
			mod = f
		case 4:
			sig = f
		}
	}
	if n == 5 && e.Template == "ima-modsig" { // d-ng|n-ng|sig|d-modsig|modsig
		e.ModAlg, e.ModHash = imaDigest(mod)
		e.ModSig = sig
	}
	return ""
}

// imaDigest reads the fields d-ng and d-modsig: "sha256:" NUL digest; d-ngv2 has "ima:sha256:".
func imaDigest(f []byte) (alg string, digest []byte) {
	head, digest, ok := bytes.Cut(f, []byte{0})
	if !ok {
		return "", nil
	}
	name := strings.TrimSuffix(string(head), ":")
	return name[strings.LastIndexByte(name, ':')+1:], digest
}

// PrintableName returns the name for a person's eyes.
func (e *IMAEntry) PrintableName() string { return printable(e.Name) }

// Text returns the entry for a person's eyes, printable.
func (e *IMAEntry) Text() string {
	if e.Violation() {
		return printable("violation: " + e.Name)
	}
	return printable(fmt.Sprintf("%s %s:%x", e.Name, e.FileAlg, e.FileHash))
}

// templateHash is what the kernel extends for the entry into one bank.
func (e *IMAEntry) templateHash(a Alg) []byte {
	if e.Violation() {
		return bytes.Repeat([]byte{0xFF}, a.Size())
	}
	if e.Template != "ima" {
		return a.Sum(e.Data)
	}
	// The oldest template hashes the digest and the name padded to 256 bytes.
	buf := make([]byte, 20+256)
	copy(buf, e.FileHash)
	copy(buf[20:], e.Name)
	return a.Sum(buf)
}

// Extend extends the entry into bank as the kernel did. Linux hashes the
// template once for each bank; with padded, the bank got the SHA-1 digest and
// zeros behind it, as kernels do that are older than 5.8 or have no such hash
// built in (Debian's 6.1: SHA-384). Never trust a padded bank with more than
// SHA-1 deserves. An entry whose own SHA-1 digest is not the hash of its data is
// an error: its text was changed.
func (e *IMAEntry) Extend(bank *Bank, padded bool) error {
	if !e.Violation() && !bytes.Equal(e.templateHash(SHA1), e.SHA1) {
		return fmt.Errorf("the digest of %s is not the hash of its data", e.Text())
	}
	sum := e.templateHash(bank.Alg)
	if padded && !e.Violation() && bank.Alg.Size() >= len(e.SHA1) {
		clear(sum[copy(sum, e.SHA1):])
	}
	h := bank.Alg.New()
	h.Write(bank.PCR[e.PCR])
	h.Write(sum)
	bank.PCR[e.PCR] = h.Sum(nil)
	bank.Extended |= 1 << e.PCR
	return nil
}

// ReplayIMA extends all entries into bank, which is what the firmware's log led to.
func ReplayIMA(bank *Bank, entries []IMAEntry, padded bool) error {
	for i := range entries {
		if err := entries[i].Extend(bank, padded); err != nil {
			return fmt.Errorf("replaying the IMA list: entry %d: %v", i, err)
		}
	}
	return nil
}

// BootAggregate is the digest that IMA's first entry must have: over PCRs 0 to
// 9 of the bank (0 to 7 for SHA-1), as they are when Linux starts. It ties the
// IMA list to the firmware's log.
func BootAggregate(bank *Bank) []byte {
	last := 9
	if bank.Alg == SHA1 {
		last = 7
	}
	h := bank.Alg.New()
	for _, v := range bank.PCR[:last+1] {
		h.Write(v)
	}
	return h.Sum(nil)
}

// EncodeIMA writes entries as the kernel does.
func EncodeIMA(entries []IMAEntry) []byte {
	var b []byte
	for i := range entries {
		e := &entries[i]
		b = binary.LittleEndian.AppendUint32(b, e.PCR)
		b = append(b, e.SHA1...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Template)))
		b = append(b, e.Template...)
		if e.Template != "ima" {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		}
		b = append(b, e.Data...)
	}
	return b
}
