// Command guest is /init of the guest that the test in the folder above boots:
// it prints the event log and the PCRs to the console and switches the machine off.
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	for _, m := range [][2]string{{"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"}} {
		_ = os.MkdirAll(m[1], 0o755)
		if err := syscall.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			fmt.Println("GUEST error", m[1], err)
		}
	}
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		fmt.Println("GUEST error", err)
	}
	for text := base64.StdEncoding.EncodeToString(log); text != ""; {
		n := min(len(text), 76)
		fmt.Println("GUEST log", text[:n])
		text = text[n:]
	}
	files, _ := filepath.Glob("/sys/class/tpm/tpm0/pcr-sha256/*")
	for _, f := range files {
		v, _ := os.ReadFile(f)
		fmt.Println("GUEST pcr", filepath.Base(f), strings.ToLower(strings.TrimSpace(string(v))))
	}
	fmt.Println("GUEST done")
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
