package tpmsock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Process is a running TPM server that was started here.
type Process struct {
	Data    string // address of the data channel
	Control string // address of the control channel
	PID     int

	cmd    *exec.Cmd
	stderr strings.Builder
}

// Start runs a server that takes swtpm's options on unix sockets in dir, with
// its state there too, and waits until it answers. argv is the program and what
// comes before the options: {"swtpm", "socket"} or {"vouchsafe", "vtpm", "serve"}.
func Start(dir string, argv ...string) (*Process, error) {
	data, ctrl := filepath.Join(dir, "sock"), filepath.Join(dir, "ctrl")
	os.Remove(data)
	os.Remove(ctrl)
	args := append(argv[1:len(argv):len(argv)], "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+ctrl, "--flags", "not-need-init")
	p := &Process{Data: "unix:" + data, Control: "unix:" + ctrl, cmd: exec.Command(argv[0], args...)}
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	p.PID = p.cmd.Process.Pid
	for wait := time.Millisecond; wait < 4*time.Second; wait += wait / 2 {
		if c, err := DialControl(p.Control); err == nil {
			c.Close()
			if d, err := Dial(p.Data); err == nil { // bound is not listening yet
				d.Close()
				return p, nil
			}
		}
		time.Sleep(wait)
	}
	p.Stop()
	return nil, errors.New(argv[0] + " does not listen: " + p.stderr.String())
}

// Stop kills the server, which must survive that.
func (p *Process) Stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// CPU is the time that all threads of a process have spent on a processor. Other load on the
// machine hardly moves it, unlike wall time.
func CPU(pid int) time.Duration {
	var sum int64
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		sum += n
	}
	return time.Duration(sum)
}
