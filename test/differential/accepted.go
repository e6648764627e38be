package differential

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// A Difference is what the two sides do not agree on.
type Difference struct {
	Command string
	What    string // rc, fault, or the response parameter
	Theirs  string
	Ours    string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: theirs %s, ours %s", d.Command, d.What, d.Theirs, d.Ours)
}

// An accepted row is a difference that was looked at and is meant: see accepted.txt.
type accepted struct {
	command, what, theirs, ours, reason string
	used                                int
}

func (a *accepted) String() string {
	return fmt.Sprintf("%s, %s: theirs %s, ours %s: %s", a.command, a.what, a.theirs, a.ours, a.reason)
}

// readAccepted reads the table: five columns between bars, * for anything.
func readAccepted(r io.Reader) ([]*accepted, error) {
	var rows []*accepted
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		c := strings.Split(line, "|")
		if len(c) != 5 {
			return nil, fmt.Errorf("line %d: want 5 columns, have %d", n, len(c))
		}
		for i := range c {
			c[i] = strings.TrimSpace(c[i])
		}
		if c[4] == "" {
			return nil, fmt.Errorf("line %d: no reason", n)
		}
		rows = append(rows, &accepted{command: c[0], what: c[1], theirs: c[2], ours: c[3], reason: c[4]})
	}
	return rows, sc.Err()
}

func matches(pattern, v string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(v, p)
	}
	for p := range strings.SplitSeq(pattern, ",") {
		if p == v {
			return true
		}
	}
	return false
}

// accept says whether a row covers d.
func accept(rows []*accepted, d Difference) bool {
	for _, a := range rows {
		if matches(a.command, d.Command) && matches(a.what, d.What) && matches(a.theirs, d.Theirs) && matches(a.ours, d.Ours) {
			a.used++
			return true
		}
	}
	return false
}
