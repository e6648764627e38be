package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// The data of UEFI events (PFP, section 10.4.6, and the UEFI specification).
// All of it is from strangers: a decoder that does not understand says so, and
// the caller shows the bytes.

var errShape = errors.New("the data has not the shape of its event type")

type guid [16]byte

// String writes a GUID as the UEFI specification does: the first three groups are little-endian.
func (g guid) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:16])
}

// variable is UEFI_VARIABLE_DATA.
type variable struct {
	vendor guid
	name   string
	value  []byte
}

func decodeVariable(d []byte) (variable, error) {
	var v variable
	if len(d) < 32 {
		return v, errShape
	}
	copy(v.vendor[:], d)
	nameLen, valueLen := binary.LittleEndian.Uint64(d[16:]), binary.LittleEndian.Uint64(d[24:])
	d = d[32:]
	if nameLen > uint64(len(d))/2 || valueLen != uint64(len(d))-2*nameLen {
		return v, errShape
	}
	v.name = utf16Text(d[:2*nameLen])
	v.value = d[2*nameLen:]
	return v, nil
}

// image is UEFI_IMAGE_LOAD_EVENT.
type image struct {
	base, length uint64
	path         []byte
}

func decodeImage(d []byte) (image, error) {
	if len(d) < 32 || binary.LittleEndian.Uint64(d[24:]) != uint64(len(d)-32) {
		return image{}, errShape
	}
	return image{binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:]), d[32:]}, nil
}

// decodeBlob reads UEFI_PLATFORM_FIRMWARE_BLOB and its second form with a name.
func decodeBlob(t EventType, d []byte) (name string, base, length uint64, err error) {
	if t == EVEFIFirmwareBlob2 {
		if len(d) < 1 || len(d) != 1+int(d[0])+16 {
			return "", 0, 0, errShape
		}
		name, d = string(d[1:1+int(d[0])]), d[1+int(d[0]):]
	}
	if len(d) != 16 {
		return "", 0, 0, errShape
	}
	return name, binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:]), nil
}

// decodeGPT reads UEFI_GPT_DATA and returns the disk's GUID and its partitions' names.
func decodeGPT(d []byte) (disk guid, names []string, err error) {
	const header, entry = 92, 128
	if len(d) < header+8 || string(d[:8]) != "EFI PART" {
		return disk, nil, errShape
	}
	copy(disk[:], d[56:])
	n := binary.LittleEndian.Uint64(d[header:])
	d = d[header+8:]
	if n > uint64(len(d))/entry || uint64(len(d)) != n*entry {
		return disk, nil, errShape
	}
	for i := range min(n, maxNodes) {
		names = append(names, strings.TrimRight(utf16Text(d[i*entry+56:(i+1)*entry]), "\x00"))
	}
	return disk, names, nil
}

// devicePath puts a UEFI device path into words: the nodes that name a file,
// a partition or a firmware volume; the others by number.
func devicePath(d []byte) string {
	var out []string
	for len(d) >= 4 && len(out) < maxNodes {
		kind, sub, n := d[0], d[1], int(binary.LittleEndian.Uint16(d[2:]))
		if n < 4 || n > len(d) {
			return strings.Join(append(out, "(cut short)"), "/")
		}
		body := d[4:n]
		d = d[n:]
		switch {
		case kind == 0x7F:
			return strings.Join(out, "/")
		case kind == 1 && sub == 1 && len(body) == 2:
			out = append(out, fmt.Sprintf("Pci(%x,%x)", body[1], body[0]))
		case kind == 2 && sub == 1 && len(body) == 8:
			out = append(out, fmt.Sprintf("Acpi(%08x,%d)", binary.LittleEndian.Uint32(body), binary.LittleEndian.Uint32(body[4:])))
		case kind == 4 && sub == 1 && len(body) == 38:
			var g guid
			copy(g[:], body[20:])
			out = append(out, fmt.Sprintf("HD(%d,%v)", binary.LittleEndian.Uint32(body), g))
		case kind == 4 && sub == 3 && len(body) >= 16:
			var g guid
			copy(g[:], body)
			out = append(out, fmt.Sprintf("VenMedia(%v)", g))
		case kind == 4 && sub == 4:
			out = append(out, strings.TrimRight(utf16Text(body), "\x00"))
		case kind == 4 && (sub == 6 || sub == 7) && len(body) == 16:
			var g guid
			copy(g[:], body)
			out = append(out, fmt.Sprintf("%s(%v)", map[byte]string{6: "FvFile", 7: "Fv"}[sub], g))
		default:
			out = append(out, fmt.Sprintf("node(%d,%d)", kind, sub))
		}
	}
	return strings.Join(out, "/")
}

func utf16Text(d []byte) string {
	u := make([]uint16, min(len(d)/2, 4*MaxText))
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(d[2*i:])
	}
	return string(utf16.Decode(u))
}
