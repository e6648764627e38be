package main

import (
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
)

// An op is one operation to be measured; prepare makes what it needs on a TPM.
type op struct {
	name    string
	prepare func(*bench) (steps, error)
}

// steps are what prepare hands back: run is what counts and may send several commands;
// before comes ahead of every run and is not counted; after clears up. The last two may be nil.
type steps struct {
	run           func() error
	before, after func()
}

// bench is one TPM with an ECC storage primary on it.
type bench struct {
	transport.TPM
	pid int

	wire     time.Duration // from the command's first octet out to the answer's last in
	commands int

	srk       *tpm2.CreatePrimaryResponse
	srkPublic *tpm2.TPMTPublic
}

// Send measures the wire alone, without go-tpm's marshalling and cryptography.
func (b *bench) Send(cmd []byte) ([]byte, error) {
	began := time.Now()
	rsp, err := b.TPM.Send(cmd)
	b.wire += time.Since(began)
	b.commands++
	return rsp, err
}

func connect(p *tpmsock.Process) (*bench, error) {
	c, err := tpmsock.Dial(p.Data)
	if err != nil {
		return nil, err
	}
	b := &bench{TPM: c, pid: p.PID}
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(b); err != nil {
		return nil, fmt.Errorf("starting up: %w", err)
	}
	b.srk, err = tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(b)
	if err != nil {
		return nil, fmt.Errorf("creating the storage primary: %w", err)
	}
	b.srkPublic, err = b.srk.OutPublic.Contents()
	return b, err
}

func (b *bench) flush(h tpm2.TPMHandle) {
	if h != 0 {
		tpm2.FlushContext{FlushHandle: h}.Execute(b)
	}
}

// parent authorizes the storage primary.
func (b *bench) parent() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: b.srk.ObjectHandle, Name: b.srk.Name, Auth: tpm2.PasswordAuth(nil)}
}

func (b *bench) createLoad(pub tpm2.TPMTPublic, data []byte) (tpm2.AuthHandle, error) {
	c := tpm2.Create{ParentHandle: b.parent(), InPublic: tpm2.New2B(pub)}
	if data != nil {
		c.InSensitive = sensitive(data)
	}
	made, err := c.Execute(b)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	l, err := tpm2.Load{ParentHandle: b.parent(), InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(b)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	return tpm2.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

func sensitive(data []byte) tpm2.TPM2BSensitiveCreate {
	return tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
		Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data})}}
}

// always is an op that needs no preparation.
func always(run func(*bench) error) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) { return steps{run: func() error { return run(b) }}, nil }
}

// flushing wraps a run that leaves an object or session, which goes before the next.
func flushing(b *bench, run func() (tpm2.TPMHandle, error)) steps {
	var last tpm2.TPMHandle
	clear := func() {
		b.flush(last)
		last = 0
	}
	return steps{before: clear, after: clear, run: func() (err error) {
		last, err = run()
		return err
	}}
}

// withKey is an op on a key that is made and loaded first.
func withKey(pub tpm2.TPMTPublic, run func(b *bench, k tpm2.AuthHandle) (func() error, error)) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		k, err := b.createLoad(pub, nil)
		if err != nil {
			return steps{}, err
		}
		r, err := run(b, k)
		return steps{run: r, after: func() { b.flush(k.Handle) }}, err
	}
}
