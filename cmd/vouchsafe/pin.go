package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// maxPIN bounds a PIN or a key's password; tokens take 255 bytes at most.
const maxPIN = 1024

// readPIN gets the PIN of a token, or the password of a key in a TPM: from the
// file that the key's name or $VOUCHSAFE_PIN_FILE gives, from $KBUILD_SIGN_PIN,
// where the kernel's build puts it, or from the terminal. It never is an
// argument: those everybody on the machine can read.
func (a *app) readPIN(source, what string) (secret.Bytes, error) {
	if source == "" {
		source = os.Getenv("VOUCHSAFE_PIN_FILE")
	}
	if source != "" {
		return readPINFile(a, strings.TrimPrefix(strings.TrimPrefix(source, "file:"), "//"))
	}
	if pin := os.Getenv("KBUILD_SIGN_PIN"); pin != "" {
		return secret.New([]byte(pin)), nil
	}
	pin, err := a.askPIN(what)
	if err != nil {
		return pin, withHint(fmt.Errorf("the PIN of %s is needed: %w", what, err), "%s",
			a.say("put it in a file of mode 0600 and name that: …?pin-source=file:/PATH, or VOUCHSAFE_PIN_FILE=/PATH",
				"将其写入权限为 0600 的文件并指定：…?pin-source=file:/路径，或 VOUCHSAFE_PIN_FILE=/路径"))
	}
	return pin, nil
}

func readPINFile(a *app, path string) (secret.Bytes, error) {
	b, err := readPrivate(a, path, maxPIN)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the PIN: %w", err)
	}
	n := len(b)
	for n > 0 && (b[n-1] == '\n' || b[n-1] == '\r') {
		n--
	}
	if n == 0 {
		return secret.Bytes{}, fmt.Errorf("reading the PIN: %s is empty", path)
	}
	return secret.New(b[:n]), nil
}

// readPrivate reads a file that nobody else may be able to read.
func readPrivate(a *app, path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, withHint(fmt.Errorf("%s can be read by others (mode %04o)", path, st.Mode().Perm()), "chmod 600 %s", path)
	}
	return readBounded(path, limit)
}

// askPIN reads a line from the terminal, without showing it.
func (a *app) askPIN(what string) (secret.Bytes, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return secret.Bytes{}, errors.New("there is no terminal to ask at")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return secret.Bytes{}, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return secret.Bytes{}, err
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }()
	fmt.Fprintf(tty, a.say("PIN of %s: ", "%s 的 PIN："), what)
	defer fmt.Fprintln(tty)
	line := make([]byte, 0, maxPIN)
	for {
		var c [1]byte
		if n, err := tty.Read(c[:]); n == 0 || err != nil {
			clear(line)
			return secret.Bytes{}, errors.New("the terminal was closed")
		}
		if c[0] == '\n' || c[0] == '\r' {
			break
		}
		if len(line) == maxPIN {
			clear(line)
			return secret.Bytes{}, fmt.Errorf("it has more than %d bytes", maxPIN)
		}
		line = append(line, c[0])
	}
	if len(line) == 0 {
		return secret.Bytes{}, errors.New("nothing was typed")
	}
	return secret.New(line), nil
}
