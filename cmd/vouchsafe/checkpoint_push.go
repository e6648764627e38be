package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/durable"
)

// pushed is the file that gets audit checkpoints, best on another machine's
// disk. What is in it when the service starts is what makes it an anchor: a
// machine that was set back has a shorter log, and does not get over it.
type pushed struct {
	path     string
	verifier string
	log      *slog.Logger

	mu   sync.Mutex // guards said
	said bool       // the last push failed, and that was said
}

// notSetBack refuses a log that is behind the checkpoint in the file, or beside
// it. A file that is not there yet is made with the first checkpoint.
func (p *pushed) notSetBack(dir string) error {
	signed, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return withHint(fmt.Errorf("pushing checkpoints: %w", err), "--push-checkpoint names a file that this user may read and replace: ls -l %s", p.path)
	}
	r, err := audit.Verify(filepath.Join(dir, dirAudit), p.verifier, []audit.Outside{{Name: p.path, Signed: signed}}, nil)
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if f.Subject == p.path && f.Severity == finding.Error {
			return withHint(fmt.Errorf("the audit log does not agree with the checkpoint in %s: %s: %s", p.path, f.Code, f.Evidence),
				"this machine was set back, or the file is another service's: vouchsafe audit verify --state %s --checkpoint %s; after restoring an older backup on purpose, move the file away, and keep it", dir, p.path)
		}
	}
	return nil
}

// push replaces the checkpoint before; one of a longer log stays, as evidence
// against a service that was set back while it ran.
func (p *pushed) push(signed []byte) {
	err := p.replace(signed)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && !p.said {
		p.log.Error("pushing a checkpoint", "file", p.path, "error", err)
	} else if err == nil && p.said {
		p.log.Info("pushing checkpoints works again", "file", p.path)
	}
	p.said = err != nil
}

func (p *pushed) replace(signed []byte) error {
	now, err := audit.ParseCheckpoint(signed, p.verifier)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(p.path); err == nil && !bytes.Equal(old, signed) {
		if c, err := audit.ParseCheckpoint(old, p.verifier); err != nil {
			return fmt.Errorf("what is in it stays: %w", err)
		} else if c.Size > now.Size || c.Size == now.Size && c.Root != now.Root {
			return fmt.Errorf("what is in it stays: it covers the log up to record %d, and this log has %d; was this machine set back?", c.Size, now.Size)
		}
	}
	return durable.WriteFile(p.path, signed, 0o644)
}

// apart says whether the file lies on another file system than the state, so
// that setting back the one need not set back the other.
func (p *pushed) apart(dir string) bool {
	of := func(path string) (uint64, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return uint64(st.Dev), true
	}
	a, ok := of(dir)
	b, ok2 := of(filepath.Dir(p.path))
	return ok && ok2 && a != b
}
