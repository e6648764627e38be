package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// A Go program cannot fork: --daemon starts the same command line again in a
// new session, waits until that one has its sockets, and ends. The descriptors
// that fd= options name keep their numbers.

// readyVariable carries the number of the descriptor on which the daemon says
// that it is ready.
const readyVariable = "VOUCHSAFE_DAEMON_READY"

func isDaemon() bool { return os.Getenv(readyVariable) != "" }

// startDaemon is the foreground's part.
func startDaemon(a *app) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer write.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), 2} // words about a failed start still reach the person
	for _, fd := range inherited() {
		for len(files) <= fd {
			files = append(files, ^uintptr(0)) // closed in the child
		}
		files[fd] = uintptr(fd)
	}
	at := len(files)
	files = append(files, write.Fd())
	pid, err := syscall.ForkExec(program, os.Args, &syscall.ProcAttr{
		Env:   append(os.Environ(), readyVariable+"="+strconv.Itoa(at)),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	write.Close()
	if n, _ := io.ReadFull(ready, make([]byte, 1)); n == 1 {
		return nil
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if status.Exited() && status.ExitStatus() != exitDone {
		return ended{status.ExitStatus()} // it has said why
	}
	return withHint(errors.New("the daemon ended before it was ready"), "run the same without --daemon")
}

// inherited lists the open descriptors above standard error that were passed
// on to this process: Go opens its own with close-on-exec.
func inherited() []int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(filepath.Base(e.Name()))
		if err != nil || fd <= 2 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// daemonReady is the background's part: it tells the foreground to go and lets
// go of its terminal. It stays in its directory, so relative paths stay true.
func daemonReady() error {
	value := os.Getenv(readyVariable)
	if value == "" {
		return nil
	}
	os.Unsetenv(readyVariable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= 2 {
		return fmt.Errorf("%s=%s is not for people", readyVariable, value)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	if _, err := f.Write([]byte{1}); err != nil {
		return err
	}
	return syscall.Dup3(int(null.Fd()), 2, 0)
}
