package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// alive says whether a process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z")
}

// TestStartBound kills a process, which is this test once more, and wants what
// it started to go as well; not before, whatever its threads do.
func TestStartBound(t *testing.T) {
	if os.Getenv("VOUCHSAFE_TEST_BOUND") != "" {
		child := exec.Command("sleep", "600")
		if _, err := startBound(child); err != nil {
			t.Fatal(err)
		}
		var threads sync.WaitGroup
		for range 50 {
			threads.Go(func() { runtime.LockOSThread() }) // and the thread ends with it
		}
		threads.Wait()
		time.Sleep(50 * time.Millisecond)
		fmt.Printf("child %d %v\n", child.Process.Pid, alive(child.Process.Pid))
		time.Sleep(time.Minute)
		return
	}
	parent := exec.Command(os.Args[0], "-test.run", "^TestStartBound$")
	parent.Env = append(os.Environ(), "VOUCHSAFE_TEST_BOUND=1")
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	defer parent.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	f := strings.Fields(line)
	if len(f) != 3 || f[2] != "true" {
		t.Fatalf("the child did not outlive other threads: %q", line)
	}
	pid, err := strconv.Atoi(f[1])
	must(t, err)
	must(t, parent.Process.Kill())
	parent.Wait()
	for range 100 {
		if !alive(pid) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %d outlives the one that started it", pid)
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill()
	}
}
