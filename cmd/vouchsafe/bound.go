package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startBound starts cmd so that the kernel kills it when this process ends,
// however that ends: a QEMU that outlives its demo holds its memory and its disk.
// The signal comes when the thread ends that started it (prctl(2),
// PR_SET_PDEATHSIG), so one is kept for that until release is called, after
// cmd.Wait.
func startBound(cmd *exec.Cmd) (release func(), err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-ended
		}
	}()
	return func() { close(ended) }, <-started
}
