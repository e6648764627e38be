package main

import (
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Where client and server sleep and wake each other, it matters more than
// anything else whether they share a core: the interrupt that wakes another one
// is twice the rest of a small command. The kernel decides that anew all the
// time, differently for each server, and a median over a few rounds is a matter
// of luck. With -pin it does not decide.

// processors are those that this process may use, and the first of them.
func processors() (all, first unix.CPUSet, err error) {
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return all, first, fmt.Errorf("pinning: %w", err)
	}
	for cpu := 0; first.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			first.Set(cpu)
		}
	}
	return all, first, nil
}

// place has every thread of a process run on these processors. Threads that are
// made later inherit it.
func place(pid int, on *unix.CPUSet) error {
	for range 2 { // again for those that were being made
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, on); err != nil && err != unix.ESRCH {
				return fmt.Errorf("pinning %s: %w", t, err)
			}
		}
	}
	return nil
}
