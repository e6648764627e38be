package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// creation measures how long it takes to make an instance with its endorsement
// keys, their certificates and a platform certificate, as libvirt has it done
// before the first start: one run of the first program, one of the second.
func (o *options) creation(n int, setups [][]string) error {
	wall, cpu := make([][]time.Duration, len(setups)), make([][]time.Duration, len(setups))
	for i := range n + 1 { // the first makes the local CA and is not counted
		for s, argv := range setups {
			w, c, err := setup(argv)
			if err != nil {
				return err
			}
			if i > 0 {
				wall[s], cpu[s] = append(wall[s], w), append(cpu[s], c)
			}
		}
	}
	head := []string{fmt.Sprintf("creation with EK and certificates, %d of each", n), "median ms", "p95 ms", "CPU ms"}
	var cells [][]string
	for s, argv := range setups {
		slices.Sort(wall[s])
		slices.Sort(cpu[s])
		ms := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Microseconds())/1e3) }
		cells = append(cells, []string{name(argv), ms(wall[s][n/2]), ms(wall[s][n*95/100]), ms(cpu[s][n/2])})
	}
	o.table(head, cells)
	return nil
}

// setup runs one program with swtpm_setup's options and says how long it took and
// what processor time it and its children used.
func setup(argv []string) (wall, cpu time.Duration, err error) {
	dir, err := os.MkdirTemp("", "vouchsafe-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], "--tpm2", "--tpmstate", dir, "--vmid", "bench", "--createek", "--create-ek-cert",
		"--create-platform-cert", "--lock-nvram", "--pcr-banks", "sha256", "--not-overwrite")...)
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%s: %w\n%s", argv[0], err, out)
	}
	wall = time.Since(began)
	ru := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return wall, time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), nil
}
