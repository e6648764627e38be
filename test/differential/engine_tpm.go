package differential

import (
	"fmt"
	"runtime/debug"

	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

// engineTPM is our engine in this process, with its state in memory.
type engineTPM struct {
	t         *engine.TPM
	permanent []byte
}

func newEngineTPM() (TPM, error) {
	e := &engineTPM{}
	var err error
	e.t, err = engine.Manufacture(engine.Config{Store: e})
	return e, err
}

// Put keeps what the engine made durable.
func (e *engineTPM) Put(permanent []byte) error {
	e.permanent = append(e.permanent[:0], permanent...)
	return nil
}

// A crash is a panic of the engine: a difference whatever the other side does.
type crash struct {
	what  any
	stack []byte
}

func (c *crash) Error() string { return fmt.Sprintf("panic: %v", c.what) }

func (e *engineTPM) Execute(locality uint8, cmd []byte) (rsp []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &crash{p, debug.Stack()}
		}
	}()
	return append([]byte(nil), e.t.Execute(locality, cmd, nil)...), nil
}

// PowerCycle begins anew with the permanent state that was last stored.
func (e *engineTPM) PowerCycle() error {
	t, err := engine.PowerOn(engine.Config{Store: e}, e.permanent)
	if err != nil {
		return fmt.Errorf("the engine does not take its own state: %w", err)
	}
	e.t = t
	return nil
}

// Suspend takes both parts of the state and begins anew with them.
func (e *engineTPM) Suspend() error {
	volatile, err := e.t.Volatile()
	if err != nil {
		return fmt.Errorf("taking the volatile state: %w", err)
	}
	t, err := engine.PowerOn(engine.Config{Store: e}, e.t.Permanent())
	if err != nil {
		return fmt.Errorf("the engine does not take its own state: %w", err)
	}
	if err := t.Resume(volatile); err != nil {
		return fmt.Errorf("the engine does not take its own volatile state: %w", err)
	}
	again, err := t.Volatile()
	if err != nil || len(again) != len(volatile) {
		return fmt.Errorf("the volatile state has %d octets, then %d: %v", len(volatile), len(again), err)
	}
	e.t = t
	return nil
}

func (e *engineTPM) Close() {}
