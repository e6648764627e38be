// Command guestinit is /init of a throw-away guest: it asks the kernel to load
// every module under /modules, in the order of their names, and prints on the
// console what the kernel answered, one JSON object a line behind "VERDICT ",
// then powers off. It is for the test in test/modules and nothing else.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// verdict is one answer; package guest reads it.
type verdict struct {
	File  string   `json:"file"`
	Errno string   `json:"errno"` // empty: loaded
	Taint string   `json:"taint"` // what the load added
	Log   []string `json:"log"`
}

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"securityfs", "/sys/kernel/security"}} {
		_ = os.MkdirAll(m[1], 0o755)
		_ = unix.Mount(m[0], m[1], m[0], 0, "")
	}
	say("FACT", map[string]string{
		"release":     read("/proc/sys/kernel/osrelease"),
		"sig_enforce": read("/sys/module/module/parameters/sig_enforce"),
		"lockdown":    read("/sys/kernel/security/lockdown"),
		"keys":        keys(" asymmetri"),
		"blacklist":   keys(" blacklist"),
	})
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		fmt.Println("NO LOG", err)
	}
	drain(log)
	files, _ := filepath.Glob("/modules/*")
	for _, f := range files {
		say("VERDICT", try(f, log))
	}
	fmt.Println("DONE")
	unix.Sync()
	time.Sleep(100 * time.Millisecond)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func try(path string, log *os.File) verdict {
	v := verdict{File: filepath.Base(path), Log: []string{}}
	before := read("/proc/sys/kernel/tainted")
	f, err := os.Open(path)
	if err != nil {
		v.Errno = err.Error()
		return v
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(path, ".xz") || strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".zst") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	var errno unix.Errno
	if errors.As(err, &errno) {
		v.Errno = unix.ErrnoName(errno)
	}
	v.Log = append(v.Log, drain(log)...)
	if err == nil {
		// Only what proc lists first can be what was just loaded: everything is unloaded again.
		for _, line := range strings.Split(read("/proc/modules"), "\n") {
			name, rest, _ := strings.Cut(line, " ")
			if name == "" {
				continue
			}
			if strings.Contains(rest, "(E)") || strings.Contains(rest, "(OE)") {
				v.Taint = "E"
			}
			_ = unix.DeleteModule(name, unix.O_NONBLOCK)
		}
		drain(log)
	}
	if v.Taint == "" && read("/proc/sys/kernel/tainted") != before {
		v.Taint = "kernel " + before + " -> " + read("/proc/sys/kernel/tainted")
	}
	return v
}

// keys are the lines of /proc/keys of one type.
func keys(typ string) string {
	var out []string
	for _, l := range strings.Split(read("/proc/keys"), "\n") {
		if strings.Contains(l, typ) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func say(what string, v any) {
	b, _ := json.Marshal(v)
	fmt.Println(what, string(b))
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// drain returns the kernel's lines since the last call, without their heads.
func drain(f *os.File) (out []string) {
	if f == nil {
		return nil
	}
	b := make([]byte, 8192)
	for {
		n, err := unix.Read(int(f.Fd()), b)
		if errors.Is(err, unix.EPIPE) {
			continue // lines were overwritten before we read them
		}
		if n <= 0 || err != nil {
			return out
		}
		// "6,1234,5678901,-;text\n KEY=value\n"
		_, text, ok := strings.Cut(string(b[:n]), ";")
		line, _, _ := strings.Cut(text, "\n")
		if ok {
			out = append(out, line)
		}
	}
}
