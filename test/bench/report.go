package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

func us(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1e3) }

func (r row) short() string {
	var parts []string
	for _, s := range r.samples {
		if s.err != nil {
			parts = append(parts, "FAILED: "+s.err.Error())
			continue
		}
		parts = append(parts, fmt.Sprintf("p50 %s us, cpu %s us", us(s.p50), us(s.cpu)))
	}
	return strings.Join(parts, "  |  ")
}

// name is what a server is called in a table.
func name(argv []string) string { return filepath.Base(argv[0]) }

// report writes the table to stdout.
func (o *options) report(rows []row) {
	head := []string{"operation", "commands"}
	for _, s := range o.servers {
		head = append(head, name(s)+" p50 us", name(s)+" CPU us")
	}
	if len(o.servers) == 2 {
		head = append(head, "p50 ratio", "CPU ratio")
	}
	var cells [][]string
	for _, r := range rows {
		line := []string{r.op, fmt.Sprint(r.samples[0].commands)}
		failed := false
		for _, s := range r.samples {
			if s.err != nil {
				failed = true
				line = append(line, "failed", "failed")
				continue
			}
			line = append(line, us(s.p50), us(s.cpu))
		}
		if len(r.samples) == 2 {
			if failed {
				line = append(line, "", "")
			} else {
				a, b := r.samples[0], r.samples[1]
				line = append(line, fmt.Sprintf("%.2f", ratio(b.p50, a.p50)), fmt.Sprintf("%.2f", ratio(b.cpu, a.cpu)))
			}
		}
		cells = append(cells, line)
	}
	o.table(head, cells)
}

func (o *options) reportRates(rate map[string][]float64) {
	head := []string{"operation"}
	for _, s := range o.servers {
		head = append(head, fmt.Sprintf("%d x %s, ops/s", o.many, name(s)))
	}
	if len(o.servers) == 2 {
		head = append(head, "ratio")
	}
	var cells [][]string
	for _, op := range ops() {
		r, ok := rate[op.name]
		if !ok {
			continue
		}
		line := []string{op.name}
		for _, v := range r {
			line = append(line, fmt.Sprintf("%.0f", v))
		}
		if len(r) == 2 && !math.IsNaN(r[0]) {
			line = append(line, fmt.Sprintf("%.2f", r[1]/r[0]))
		}
		cells = append(cells, line)
	}
	o.table(head, cells)
}

func (o *options) table(head []string, cells [][]string) {
	if o.markdown {
		fmt.Println("| " + strings.Join(head, " | ") + " |")
		fmt.Println("|---" + strings.Repeat("|---:", len(head)-1) + "|")
		for _, c := range cells {
			fmt.Println("| " + strings.Join(c, " | ") + " |")
		}
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, c := range cells {
		fmt.Fprintln(w, strings.Join(c, "\t"))
	}
	w.Flush()
}
