// Command bench compares two TPMs behind sockets: each operation is run on one
// and the other in turn, so that what else the machine does falls on both, and
// is judged by the processor time that the server spent on it (and by the wall
// time of the median beside it). It is not a test: it has no limits and never
// fails because something was slow.
//
//	go run ./bench                                  # Debian's swtpm against vouchsafe from PATH
//	go run ./bench -b '../vouchsafe vtpm serve'     # against a program built here
//	go run ./bench -only 'Sign|Quote' -markdown     # the rows for docs/PERFORMANCE.md
//	go run ./bench -pin -only 'GetRandom|PCR_Read'  # small commands, without the kernel's choice of cores
//	go run ./bench -pause 20ms -only 'PCR_Extend'   # what a command costs that comes alone
//	go run ./bench -many 8                          # eight instances of each, all busy
//	go run ./bench -density 1000                    # memory of many engines in one process
//	go run ./bench -create 20                       # making instances, certificates and all
//	go run ./bench -fleet 1000 -program ./vouchsafe # a service and its host with many VMs, which boot at once
//
// Begin with run in measure.go; the operations are in the files ops_*.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"
)

func main() {
	o := options{}
	a := flag.String("a", "swtpm socket", "the first server: a command line before swtpm's options")
	b := flag.String("b", "vouchsafe vtpm serve", "the second server, likewise; empty measures the first alone")
	only := flag.String("only", "", "run the operations whose name matches")
	flag.DurationVar(&o.budget, "time", 1500*time.Millisecond, "time for each operation on each TPM")
	flag.IntVar(&o.max, "n", 2000, "at most this many runs of each operation")
	flag.IntVar(&o.min, "min", 20, "at least this many runs, whatever the time")
	flag.IntVar(&o.rounds, "rounds", 3, "start both servers anew this many times and take the median")
	flag.IntVar(&o.many, "many", 0, "this many instances of each at once, all busy: operations per second")
	flag.BoolVar(&o.pin, "pin", false, "keep both servers and the client on one processor, see pin.go")
	flag.DurationVar(&o.pause, "pause", 0, "wait so long before each run of an operation, as a guest does that asks now and then")
	flag.BoolVar(&o.markdown, "markdown", false, "write a Markdown table")
	density := flag.Int("density", 0, "make this many engines in this process, use them, and say what memory each takes")
	create := flag.Int("create", 0, "make this many instances with each set-up program")
	setupA := flag.String("a-setup", "swtpm_setup", "the first set-up program")
	setupB := flag.String("b-setup", "vouchsafe vtpm setup", "the second; empty measures the first alone")
	many := flag.Int("fleet", 0, "run vouchsafe up with this many VMs, and let all of them boot at once")
	program := flag.String("program", "vouchsafe", "the program for -fleet")
	list := flag.Bool("list", false, "name the operations")
	flag.Parse()
	if *list {
		for _, op := range ops() {
			fmt.Println(op.name)
		}
		return
	}
	if *many > 0 {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if err := runFleet(ctx, *program, *many); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			os.Exit(1)
		}
		return
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintf(os.Stderr, "error: -only: %v\n", err)
		os.Exit(2)
	}
	for _, s := range []string{*a, *b} {
		if s != "" {
			o.servers = append(o.servers, strings.Fields(s))
		}
	}
	work := o.run
	if *density > 0 {
		work = func() error { return o.density(*density) }
	}
	if *create > 0 {
		var setups [][]string
		for _, s := range []string{*setupA, *setupB} {
			if s != "" {
				setups = append(setups, strings.Fields(s))
			}
		}
		work = func() error { return o.creation(*create, setups) }
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case <-interrupted:
		stopAll()
		os.Exit(130)
	case err := <-done:
		stopAll()
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
}
