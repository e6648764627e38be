// Package simulator stands in for the package of that name in go-tpm-tools: its
// Get starts a TPM of its own for every caller, from the command in the
// environment. The script gotpm-suite puts it in that module's place, so that
// go-tpm's own tests run against any program that takes swtpm's options. It
// imports nothing of this project because it is copied out of it.
package simulator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Simulator is a TPM that was started and got TPM2_Startup(CLEAR).
type Simulator struct {
	net.Conn
	dir string
	cmd *exec.Cmd
}

// Get starts the program in TPM_SIM_CMD, "swtpm socket" when it is not set.
func Get() (*Simulator, error) {
	argv := strings.Fields(os.Getenv("TPM_SIM_CMD"))
	if len(argv) == 0 {
		argv = []string{"swtpm", "socket"}
	}
	dir, err := os.MkdirTemp("", "tpm-")
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(dir, "sock")
	s := &Simulator{dir: dir, cmd: exec.Command(argv[0], append(argv[1:], "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+sock, "--ctrl", "type=unixio,path="+sock+".ctrl", "--flags", "not-need-init")...)}
	var stderr bytes.Buffer
	s.cmd.Stderr = &stderr
	if err := s.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for wait := time.Millisecond; s.Conn == nil && wait < 5*time.Second; wait += wait / 2 {
		if c, err := net.Dial("unix", sock); err == nil {
			s.Conn = c
			break
		}
		time.Sleep(wait)
	}
	if s.Conn == nil {
		s.Close()
		return nil, fmt.Errorf("%s does not listen: %s", argv[0], stderr.String())
	}
	if err := s.startup(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Simulator) startup() error {
	if _, err := s.Write([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}); err != nil {
		return err
	}
	var rsp [10]byte
	if _, err := io.ReadFull(s.Conn, rsp[:]); err != nil {
		return err
	}
	if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
		return fmt.Errorf("TPM2_Startup: 0x%x", rc)
	}
	return nil
}

// Close ends the program and removes its state.
func (s *Simulator) Close() error {
	if s.cmd == nil {
		return errors.New("closed already")
	}
	if s.Conn != nil {
		s.Conn.Close()
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
	return os.RemoveAll(s.dir)
}
