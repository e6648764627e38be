package main

import (
	"fmt"
	"os"
	"time"
)

// progress counts on one line of a terminal, a few times a second; anywhere
// else it is silent.
type progress struct {
	a           *app
	done, total int
	last        time.Time
	tty, shown  bool
}

func (a *app) newProgress(total int) *progress {
	p := &progress{a: a, total: total, last: time.Now()}
	if f, ok := a.err.(*os.File); ok {
		st, err := f.Stat()
		p.tty = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) step() {
	p.done++
	if !p.tty || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(p.a.err, p.a.say("\r%d of %d modules", "\r已检查 %d / %d 个模块"), p.done, p.total)
}

// clear wipes the line, so that other words can be printed.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.a.err, "\r\x1b[K")
		p.shown = false
	}
}
