package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// table is what a command lists: cells end in a tab, rows in a newline, and
// Flush aligns the columns. text/tabwriter takes a Chinese character, two
// columns wide, for one.
type table struct {
	bytes.Buffer
	out io.Writer
}

func (a *app) table() *table { return &table{out: a.out} }

// Flush writes the rows that are there.
func (t *table) Flush() error {
	var rows [][]string
	for row := range strings.Lines(t.String()) {
		rows = append(rows, strings.Split(strings.TrimSuffix(row, "\n"), "\t"))
	}
	t.Reset()
	return printTable(t.out, rows)
}

// printTable aligns the columns.
func printTable(out io.Writer, rows [][]string) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 { // nothing stands behind the last
				widths[i] = max(widths[i], columns(cell))
			}
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-columns(cell)+2))
			}
		}
		if _, err := fmt.Fprintln(out, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// columns is how wide a terminal shows s.
func columns(s string) (n int) {
	for _, r := range s {
		if n++; r >= 0x2e80 {
			n++
		}
	}
	return n
}
