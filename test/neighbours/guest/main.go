// Command guest is /init of the guests that the neighbour tests boot: it uses
// /dev/tpm0 as a guest would, prints what it finds as lines "NAME VALUE" on the
// console, and powers the machine off. It is not for real machines.
//
// Words on the kernel command line choose more: guest=wait counts ticks with
// a TPM command each until a line arrives on the console; guest=reset resets
// the machine once.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"securityfs", "/sys/kernel/security"}} {
		os.MkdirAll(m[1], 0o755)
		if err := syscall.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != syscall.EBUSY {
			say("MOUNT", m[1]+" "+err.Error())
		}
	}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	say("USERLAND", strings.TrimSpace(string(cmdline)))
	look()
	if strings.Contains(string(cmdline), "guest=wait") {
		wait()
	}
	say("DONE", "ok")
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func say(name, value string) { fmt.Printf("%s %s\n", name, value) }

// look prints what Linux knows of the TPM.
func look() {
	for _, name := range []string{"tpm_version_major", "pcr-sha1/0", "pcr-sha256/0"} {
		b, err := os.ReadFile("/sys/class/tpm/tpm0/" + name)
		if err != nil {
			say("ABSENT", name)
			continue
		}
		say("SYS", name+" "+strings.TrimSpace(string(b)))
	}
	for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
		for pcr := range 24 {
			if b, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-%s/%d", bank, pcr)); err == nil {
				say("PCR", fmt.Sprintf("%s %d %s", bank, pcr, strings.ToLower(strings.TrimSpace(string(b)))))
			}
		}
	}
	if log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements"); err == nil {
		text := base64.StdEncoding.EncodeToString(log)
		for len(text) > 0 {
			n := min(120, len(text))
			say("LOG", text[:n])
			text = text[n:]
		}
	} else {
		say("ABSENT", "event log: "+err.Error())
	}
	for _, dev := range []string{"/dev/tpm0", "/dev/tpmrm0"} {
		r, err := ask(dev, "80010000000c0000017b0010")
		say("RANDOM", fmt.Sprintf("%s %s %v", dev, r, err))
	}
}

// ask sends one command. It opens the device itself: os.OpenFile would make it
// non-blocking, and a read right after the write would come too early.
func ask(dev, command string) (string, error) {
	fd, err := syscall.Open(dev, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	b, err := hex.DecodeString(command)
	if err != nil {
		return "", err
	}
	if _, err := syscall.Write(fd, b); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := syscall.Read(fd, answer)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(answer[:n]), nil
}

// wait extends PCR 23 once, then asks for random bytes again and again, until
// a line comes on the console; then it prints PCR 23.
func wait() {
	extend := "80020000004100000182" + "00000017" + "00000009" + "40000009" + "0000" + "00" + "0000" +
		"00000001" + "000b" + strings.Repeat("5a", 32)
	r, err := ask("/dev/tpm0", extend)
	say("EXTEND", fmt.Sprintf("%s %v", r, err))
	stop := make(chan bool)
	go func() { bufio.NewReader(os.Stdin).ReadString('\n'); close(stop) }()
	for tick := 0; ; tick++ {
		select {
		case <-stop:
			b, err := os.ReadFile("/sys/class/tpm/tpm0/pcr-sha256/23")
			say("PCR23", fmt.Sprintf("%s %v", strings.TrimSpace(string(b)), err))
			return
		case <-time.After(100 * time.Millisecond):
			r, err := ask("/dev/tpm0", "80010000000c0000017b0008")
			say("TICK", fmt.Sprintf("%d %s %v", tick, r, err))
		}
	}
}
