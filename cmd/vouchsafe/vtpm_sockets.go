package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// openChannels opens --server and --ctrl.
func openChannels(f serveFlags) (*swtpm.Server, error) {
	s := &swtpm.Server{}
	data, err := parseSettings("server", f.server, "type", "port", "bindaddr", "ifname", "path", "fd", "mode", "uid", "gid", "disconnect")
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"port": f.port, "fd": f.fd} {
		if v != "" {
			data[name] = v
		}
	}
	control, err := parseSettings("ctrl", f.ctrl, "type", "port", "bindaddr", "ifname", "path", "fd", "clientfd", "mode", "uid", "gid", "terminate")
	if err != nil {
		return nil, err
	}
	if len(data) == 0 && len(control) == 0 {
		return nil, withHint(usageError{errors.New("how is the TPM reached? there is no --server and no --ctrl")},
			"for QEMU: --ctrl type=unixio,path=PATH; for tpm2-tools: --server port=2321 --ctrl type=tcp,port=2322 --flags not-need-init,startup-clear")
	}
	s.OneCommand = data.has("disconnect")
	s.StopOnControlClose = control.has("terminate")
	if data.has("fd") {
		s.DataConn, err = connFrom(data, "fd")
	} else if len(data) > 0 {
		s.Data, err = listen("server", data, "tcp")
	}
	if err != nil {
		return nil, err
	}
	switch {
	case control.has("clientfd"):
		s.ControlConn, err = connFrom(control, "clientfd")
	case control.has("fd"):
		s.Control, err = listenerFrom(control, "fd")
	case len(control) > 0:
		s.Control, err = listen("ctrl", control, "unixio")
	}
	if err != nil {
		closeChannels(s)
		return nil, err
	}
	return s, nil
}

func closeChannels(s *swtpm.Server) {
	for _, c := range []io.Closer{s.Data, s.Control, s.DataConn, s.ControlConn} {
		if c != nil {
			c.Close()
		}
	}
}

// channelName names a channel in the log.
func channelName(l net.Listener, c net.Conn) string {
	switch {
	case l != nil:
		return l.Addr().String()
	case c != nil:
		return "a descriptor that was handed over"
	}
	return "none (or what SET_DATAFD brings)"
}

func connFrom(s settings, name string) (net.Conn, error) {
	f, err := descriptor(s, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

func listenerFrom(s settings, name string) (net.Listener, error) {
	f, err := descriptor(s, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

func listen(option string, s settings, usual string) (net.Listener, error) {
	kind := s["type"]
	if kind == "" {
		kind = usual
		if s.has("path") {
			kind = "unixio"
		} else if s.has("port") {
			kind = "tcp"
		}
	}
	switch kind {
	case "tcp":
		if !s.has("port") {
			return nil, usageError{fmt.Errorf("--%s type=tcp wants port=N", option)}
		}
		port, err := s.number("port", 0, maxPort)
		if err != nil {
			return nil, err
		}
		addr := s["bindaddr"]
		if addr == "" {
			addr = "127.0.0.1"
		}
		if s.has("ifname") && strings.HasPrefix(addr, "fe80:") {
			addr += "%" + s["ifname"]
		}
		l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, withHint(fmt.Errorf("listening on port %d: it is in use", port), "ss -lntp 'sport = :%d'", port)
		}
		return l, err
	case "unixio":
		return listenUnix(option, s)
	}
	return nil, usageError{fmt.Errorf("--%s type=%s: it is tcp or unixio", option, kind)}
}

// listenUnix makes a socket with its mode and owner from the first moment. A
// socket that nobody listens on any more is replaced.
func listenUnix(option string, s settings) (net.Listener, error) {
	path := s["path"]
	if path == "" {
		return nil, usageError{fmt.Errorf("--%s type=unixio wants path=PATH", option)}
	}
	mode, err := s.fileMode(0o600)
	if err != nil {
		return nil, err
	}
	uid, err := s.number("uid", -1, 1<<31-1)
	if err != nil {
		return nil, err
	}
	gid, err := s.number("gid", -1, 1<<31-1)
	if err != nil {
		return nil, err
	}
	old := syscall.Umask(0o777 &^ int(mode))
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, listenError(path, err)
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Lchown(path, uid, gid); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// listenError says why there is no socket at path, without the names of Go's calls.
func listenError(path string, err error) error {
	var errno syscall.Errno
	errors.As(err, &errno)
	dir := filepath.Dir(path)
	switch {
	case len(path) > 107: // unix(7): sun_path
		return withHint(usageError{fmt.Errorf("listening on %s: the path of a socket has at most 107 bytes, this one %d", path, len(path))}, "put the socket into a directory with a short name, such as /run/vtpm")
	case errno == syscall.ENOENT:
		return withHint(fmt.Errorf("listening on %s: there is no directory %s", path, dir), "mkdir -p -m 700 %s", dir)
	case errno == syscall.EADDRINUSE:
		return withHint(fmt.Errorf("listening on %s: it is there, and in use", path), "fuser -v %s", path)
	case errno == syscall.EACCES:
		return withHint(fmt.Errorf("listening on %s: permission denied", path), "who may write there? ls -ld %s", dir)
	}
	return fmt.Errorf("listening on %s: %w", path, err)
}

// abandoned says whether path is a socket that nobody listens on.
func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
