package eventlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns the event's data for a person's eyes: one line, printable,
// never longer than [MaxText] runes and a little. Whether it may be believed
// is what [Event.Binding] says.
func (e *Event) Text() string { return printable(e.text()) }

func (e *Event) text() string {
	switch e.Type {
	case EVEFIVariableDriver, EVEFIVariableBoot, EVEFIVariableBoot2, EVEFIVariableAuthority:
		if v, err := decodeVariable(e.Data); err == nil {
			return variableText(v)
		}
	case EVEFIBootServicesApp, EVEFIBootServicesDriver, EVEFIRuntimeDriver:
		if m, err := decodeImage(e.Data); err == nil {
			return strings.TrimSpace(fmt.Sprintf("%s (%d bytes)", devicePath(m.path), m.length))
		}
	case EVEFIFirmwareBlob, EVEFIFirmwareBlob2:
		if name, base, n, err := decodeBlob(e.Type, e.Data); err == nil {
			return strings.TrimSpace(fmt.Sprintf("%s %d bytes at 0x%x", name, n, base))
		}
	case EVEFIGPT, EVEFIGPT2:
		if disk, names, err := decodeGPT(e.Data); err == nil {
			return fmt.Sprintf("disk %v, partitions: %s", disk, strings.Join(names, ", "))
		}
	case EVEventTag:
		if id, body, ok := decodeTag(e.Data); ok {
			return fmt.Sprintf("tag 0x%08x %s", id, rawText(body))
		}
	case EVNoAction:
		if isSpecID(*e) {
			if algs, err := specAlgs(e.Data); err == nil {
				return fmt.Sprintf("Spec ID Event03, banks %v", algs)
			}
		}
		if loc, ok := startupLocality(e); ok {
			return fmt.Sprintf("StartupLocality %d", loc)
		}
	}
	return rawText(e.Data)
}

func variableText(v variable) string {
	val := fmt.Sprintf("%d bytes", len(v.value))
	switch {
	case len(v.value) == 0:
		val = "empty"
	case len(v.value) <= 16:
		val = hex.EncodeToString(v.value)
	}
	if strings.HasPrefix(v.name, "Boot0") && len(v.value) > 6 {
		// EFI_LOAD_OPTION: attributes, path length, description, path.
		if end := bytes.Index(v.value[6:], []byte{0, 0, 0}); end >= 0 {
			val += ", " + utf16Text(v.value[6:6+end+1])
		}
	}
	return v.name + " = " + val
}

// rawText shows bytes as the text they probably are: UTF-8, UTF-16, else hex.
func rawText(d []byte) string {
	t := bytes.TrimRight(d, "\x00")
	if len(t) > 0 && utf8.Valid(t) && mostlyText(string(t)) {
		return string(t)
	}
	if len(t) >= 4 && len(d)%2 == 0 && d[1] == 0 && d[3] == 0 {
		if s := strings.TrimRight(utf16Text(d), "\x00"); mostlyText(s) {
			return s
		}
	}
	if len(d) > MaxText/2 {
		return hex.EncodeToString(d[:MaxText/2]) + "…"
	}
	return hex.EncodeToString(d)
}

func mostlyText(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || (!unicode.IsPrint(r) && r != '\n' && r != '\t') {
			return false
		}
	}
	return s != ""
}

// printable keeps what a terminal may safely show. A guest chose these bytes:
// control characters, direction marks and the like become escapes.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > MaxText {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError || !unicode.IsPrint(r):
			fmt.Fprintf(&b, "\\u{%x}", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
