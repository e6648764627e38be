package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

// device is one engine in this process.
type device struct{ *engine.TPM }

func (d device) Send(cmd []byte) ([]byte, error) { return d.Execute(0, cmd, nil), nil }

// density makes n engines in this process, uses each as a guest does between boot
// and unlocking its disk, and says what memory one takes: heap in use after a
// collection, and resident set, both less what the empty process had.
func (o *options) density(n int) error {
	heap0, rss0 := memory()
	instances := make([]*engine.TPM, n)
	for i := range instances {
		t, err := engine.Manufacture(engine.Config{})
		if err != nil {
			return err
		}
		if err := use(device{t}); err != nil {
			return fmt.Errorf("instance %d: %w", i, err)
		}
		instances[i] = t
	}
	heap, rss := memory()
	kib := func(b uint64) string { return fmt.Sprintf("%.1f", float64(b)/1024/float64(n)) }
	o.table([]string{"instances in one process", "heap KiB each", "resident KiB each"},
		[][]string{{fmt.Sprint(n), kib(heap - heap0), kib(rss - rss0)}})
	runtime.KeepAlive(instances)
	return nil
}

func use(d transport.TPM) error {
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(d); err != nil {
		return err
	}
	b := &bench{TPM: d}
	var err error
	if b.srk, err = (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(b); err != nil {
		return err
	}
	if b.srkPublic, err = b.srk.OutPublic.Contents(); err != nil {
		return err
	}
	for pcr := range 10 {
		for range 5 {
			if err := extendPCR(b, tpm2.TPMHandle(pcr)); err != nil {
				return err
			}
		}
	}
	if _, err := b.writer(1024); err != nil { // as an EK certificate
		return err
	}
	s, err := unsealPCR(b)
	if err != nil {
		return err
	}
	if err := s.run(); err != nil {
		return err
	}
	_, err = tpm2.EvictControl{Auth: tpm2.TPMRHOwner, PersistentHandle: 0x81000001,
		ObjectHandle: &tpm2.NamedHandle{Handle: b.srk.ObjectHandle, Name: b.srk.Name}}.Execute(b)
	return err
}

func extendPCR(b *bench, pcr tpm2.TPMHandle) error {
	_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: pcr, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}.Execute(b)
	return err
}

// memory is the heap in use after a collection, and the resident set.
func memory() (heap, rss uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, _ := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(b))
	if len(f) > 1 {
		fmt.Sscan(f[1], &rss)
	}
	return m.HeapAlloc, rss * uint64(os.Getpagesize())
}
