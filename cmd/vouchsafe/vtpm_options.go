package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// settings are the words of an option in swtpm's form: name=value,name,…
type settings map[string]string

// parseSettings takes an option's value apart. Unknown names are an error, so
// that a misspelt mode= does not leave a file readable.
func parseSettings(option, value string, known ...string) (settings, error) {
	s := settings{}
	if value == "" {
		return s, nil
	}
	for _, word := range strings.Split(value, ",") {
		name, v, _ := strings.Cut(word, "=")
		if !slices.Contains(known, name) {
			return nil, usageError{fmt.Errorf("--%s does not know %q; it knows %s", option, name, strings.Join(known, ", "))}
		}
		if _, twice := s[name]; twice {
			return nil, usageError{fmt.Errorf("--%s has %q twice", option, name)}
		}
		s[name] = v
	}
	return s, nil
}

func (s settings) has(name string) bool { _, ok := s[name]; return ok }

// number reads a decimal number, fallback when the word is absent.
func (s settings) number(name string, fallback, most int) (int, error) {
	if !s.has(name) {
		return fallback, nil
	}
	n, err := strconv.Atoi(s[name])
	if err != nil || n < 0 || n > most {
		return 0, usageError{fmt.Errorf("%s=%s is no number from 0 to %d", name, s[name], most)}
	}
	return n, nil
}

// fileMode reads mode=, which is octal.
func (s settings) fileMode(fallback fs.FileMode) (fs.FileMode, error) {
	if !s.has("mode") {
		return fallback, nil
	}
	n, err := strconv.ParseUint(s["mode"], 8, 32)
	if err != nil || n > 0o777 {
		return 0, usageError{fmt.Errorf("mode=%s is no octal file mode", s["mode"])}
	}
	return fs.FileMode(n), nil
}

const (
	maxDescriptor = 1 << 20
	maxPort       = 65535
	// maxKeyFile is far above 64 hexadecimal digits and any passphrase.
	maxKeyFile = 4096
)

// cipherModes are swtpm's.
var cipherModes = []string{"aes-cbc", "aes-128-cbc", "aes-256-cbc"}

// parseKey reads a key as --key and --migration-key name it. swtpm's cipher
// modes are accepted: our sealing is the same with each of them.
func parseKey(option, value string) (vtpm.Key, error) {
	s, err := parseSettings(option, value, "file", "fd", "pwdfile", "pwdfd", "mode", "format", "remove", "kdf")
	if err != nil || value == "" {
		return vtpm.Key{}, err
	}
	if s["mode"] != "" && !slices.Contains(cipherModes, s["mode"]) {
		return vtpm.Key{}, usageError{fmt.Errorf("--%s mode=%s: it is aes-cbc or aes-256-cbc", option, s["mode"])}
	}
	if !slices.Contains([]string{"", "sha512", "pbkdf2"}, s["kdf"]) {
		return vtpm.Key{}, usageError{fmt.Errorf("--%s kdf=%s: it is sha512 or pbkdf2", option, s["kdf"])}
	}
	given := 0
	for _, name := range []string{"file", "fd", "pwdfile", "pwdfd"} {
		if s.has(name) {
			given++
		}
	}
	if given != 1 {
		return vtpm.Key{}, usageError{fmt.Errorf("--%s wants exactly one of file=, fd=, pwdfile=, pwdfd=", option)}
	}
	key := vtpm.Key{Passphrase: s.has("pwdfile") || s.has("pwdfd")}
	content, err := readSecret(s)
	if err != nil {
		return vtpm.Key{}, fmt.Errorf("reading the key for --%s: %w", option, err)
	}
	defer clear(content)
	if key.Secret, err = keyBytes(content, key.Passphrase, s["format"]); err != nil {
		return vtpm.Key{}, withHint(fmt.Errorf("reading the key for --%s: %w", option, err), "openssl rand -hex 32 >FILE")
	}
	for _, name := range []string{"file", "pwdfile"} {
		if s.has(name) && s.has("remove") && s["remove"] != "false" { // the word alone says it
			if err := os.Remove(s[name]); err != nil {
				return vtpm.Key{}, err
			}
		}
	}
	return key, nil
}

// readSecret reads the file or descriptor that s names.
func readSecret(s settings) ([]byte, error) {
	var f *os.File
	var err error
	for _, name := range []string{"file", "pwdfile"} {
		if s.has(name) {
			f, err = os.Open(s[name])
		}
	}
	for _, name := range []string{"fd", "pwdfd"} {
		if s.has(name) {
			f, err = descriptor(s, name)
		}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("it is longer than %d bytes", maxKeyFile)
	}
	return b, err
}

// keyBytes decodes what a key file holds.
func keyBytes(content []byte, passphrase bool, format string) (secret.Bytes, error) {
	if passphrase {
		text := bytes.TrimSuffix(content, []byte("\n"))
		if len(text) == 0 {
			return secret.Bytes{}, errors.New("the passphrase is empty")
		}
		return secret.Copy(text), nil
	}
	switch format {
	case "binary":
		if n := len(content); n != 16 && n != 32 {
			return secret.Bytes{}, fmt.Errorf("a binary key has 16 or 32 bytes, this one %d", n)
		}
		return secret.Copy(content), nil
	case "", "hex":
		digits := bytes.TrimPrefix(bytes.TrimSpace(content), []byte("0x"))
		key := make([]byte, hex.DecodedLen(len(digits)))
		if n, err := hex.Decode(key, digits); err != nil || n != 16 && n != 32 {
			return secret.Bytes{}, errors.New("a key has 32 or 64 hexadecimal digits")
		}
		return secret.New(key), nil
	}
	return secret.Bytes{}, usageError{fmt.Errorf("format=%s: it is hex or binary", format)}
}

// descriptor takes over a file descriptor that this process was started with.
func descriptor(s settings, name string) (*os.File, error) {
	n, err := s.number(name, -1, maxDescriptor)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(n), name+"="+s[name])
	if f == nil {
		return nil, fmt.Errorf("%s=%s is no open descriptor", name, s[name])
	}
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("%s=%s is no open descriptor", name, s[name])
	}
	syscall.CloseOnExec(n)
	return f, nil
}

// tpmStateDir reads --tpmstate: dir=DIR or backend-uri=dir://DIR, and mode=.
func tpmStateDir(option, value string) (dir string, mode fs.FileMode, err error) {
	s, err := parseSettings(option, value, "dir", "backend-uri", "mode", "lock", "fsync", "backup")
	if err != nil {
		return "", 0, err
	}
	if mode, err = s.fileMode(0o600); err != nil {
		return "", 0, err
	}
	dir = s["dir"]
	if uri, ok := s["backend-uri"]; ok && dir == "" {
		if dir, err = backendDir(uri); err != nil {
			return "", 0, err
		}
	}
	if dir == "" {
		dir = os.Getenv("TPM_PATH") // swtpm's way without the option, which its own tests use
	}
	if dir == "" {
		return "", 0, withHint(usageError{errors.New("where is the state? there is no --" + option)}, "add --%s dir=DIR", option)
	}
	return dir, mode, nil
}

// backendDir takes dir:// off. A single file (file://) cannot be replaced
// atomically, so it is refused.
func backendDir(uri string) (string, error) {
	if dir, ok := strings.CutPrefix(uri, "dir://"); ok {
		return dir, nil
	}
	if strings.HasPrefix(uri, "file://") {
		return "", withHint(usageError{errors.New("state in a single file or block device is not supported: it cannot be replaced atomically")},
			"use dir://DIR; a VM whose platform knows nothing else (Proxmox VE) stays on swtpm")
	}
	return uri, nil
}
