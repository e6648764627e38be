// Command imaguest is /init of a guest that does what the test in the folder
// above tells it, over HTTP: load a module, run the agent, switch off. Before the
// first module it tells IMA to measure modules, unless the command line says
// measure=no. It is for that test and nothing else.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Order is what the test wants done; Report what came of it.
type Order struct {
	Load string   // a module to load from this file
	Run  []string // a program
	Off  bool
}

type Report struct {
	Output string
	Err    string
}

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"securityfs", "/sys/kernel/security"}} {
		_ = os.MkdirAll(m[1], 0o755)
		_ = unix.Mount(m[0], m[1], m[0], 0, "")
	}
	line, err := os.ReadFile("/proc/cmdline")
	say("command line", err)
	if !strings.Contains(string(line), "measure=no") {
		say("IMA policy", os.WriteFile("/sys/kernel/security/ima/policy", []byte("measure func=MODULE_CHECK\nmeasure func=KEY_CHECK\n"), 0o200))
	}
	order, err := os.ReadFile("/modules/first")
	say("first modules", err)
	for _, name := range strings.Fields(string(order)) {
		say(name, load("/modules/"+name))
	}
	say("network", network())
	_, control, _ := strings.Cut(string(line), "control=")
	control = strings.Fields(control)[0]
	for {
		var o Order
		if err := get(control, &o); err != nil {
			fmt.Println("GUEST control:", err)
			time.Sleep(time.Second)
			continue
		}
		if o.Off {
			_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
		report(control, do(o))
	}
}

func do(o Order) (r Report) {
	var err error
	if o.Load != "" {
		err = load(o.Load)
	} else {
		var out []byte
		out, err = exec.Command(o.Run[0], o.Run[1:]...).CombinedOutput()
		r.Output = string(out)
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// network gives the first card the address that QEMU's user network expects.
func network() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for range 100 { // until virtio_net has made the card
		if _, err = os.Stat("/sys/class/net/eth0"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, c := range []struct {
		request uintptr
		addr    [4]byte
	}{{unix.SIOCSIFADDR, [4]byte{10, 0, 2, 15}}, {unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}}} {
		ifr, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(c.addr[:]); err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), c.request, uintptr(unsafe.Pointer(ifr))); errno != 0 {
			return errno
		}
	}
	ifr, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(ifr))); errno != 0 {
		return errno
	}
	return nil
}

func get(control string, o *Order) error {
	resp, err := http.Get("http://" + control + "/order")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(o)
}

func report(control string, r Report) {
	b, _ := json.Marshal(r)
	resp, err := http.Post("http://"+control+"/report", "application/json", bytes.NewReader(b))
	say("report", err)
	if err == nil {
		resp.Body.Close()
	}
}

func say(what string, err error) {
	if err != nil {
		fmt.Println("GUEST", what, err)
	}
}
