package differential

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"strings"
)

// A Step is one line of a sequence: a command in symbols, or the loss and return of power.
//
//	[@LOCALITY] COMMAND HANDLE… : AUTHORIZATION… : PARAMETER… [-> SLOT] [! FAULT…]
//	power      (lost and given back)
//	suspend    (the whole state taken out, the TPM made anew from it, as in a migration)
//
// A symbol is worked out for each TPM on its own (see expr.go), so that a line
// means the same to both although handles, nonces and blobs differ.
type Step struct {
	Power    bool
	Suspend  bool
	Locality string
	Command  string // TPM2_ name without the prefix, or a command code in hex
	Handles  []string
	Auths    []string
	Params   []string
	Save     string   // the slot that keeps the answer; "-" flushes it at once
	Faults   []string // what is done to the octets before they are sent
}

func (s Step) String() string {
	if s.Power {
		return "power"
	}
	if s.Suspend {
		return "suspend"
	}
	var b strings.Builder
	if s.Locality != "" {
		b.WriteString("@" + s.Locality + " ")
	}
	b.WriteString(s.Command)
	parts := [][]string{s.Handles, s.Auths, s.Params}
	for len(parts) > 0 && len(parts[len(parts)-1]) == 0 {
		parts = parts[:len(parts)-1]
	}
	for i, p := range parts {
		if i > 0 {
			b.WriteString(" :")
		}
		for _, t := range p {
			b.WriteString(" " + t)
		}
	}
	if s.Save != "" {
		b.WriteString(" -> " + s.Save)
	}
	if len(s.Faults) > 0 {
		b.WriteString(" ! " + strings.Join(s.Faults, " "))
	}
	return b.String()
}

// parseStep reads one line.
func parseStep(line string) (Step, error) {
	var s Step
	words := strings.Fields(line)
	if len(words) == 1 && (words[0] == "power" || words[0] == "suspend") {
		s.Power, s.Suspend = words[0] == "power", words[0] == "suspend"
		return s, nil
	}
	if len(words) > 0 && strings.HasPrefix(words[0], "@") {
		s.Locality, words = words[0][1:], words[1:]
	}
	if len(words) == 0 {
		return s, fmt.Errorf("no command in %q", line)
	}
	s.Command, words = words[0], words[1:]
	parts := []*[]string{&s.Handles, &s.Auths, &s.Params}
	at := 0
	for i := 0; i < len(words); i++ {
		switch w := words[i]; w {
		case ":":
			if at++; at == len(parts) {
				return s, fmt.Errorf("too many colons in %q", line)
			}
		case "->":
			if i++; i == len(words) {
				return s, fmt.Errorf("no slot after -> in %q", line)
			}
			s.Save = words[i]
		case "!":
			s.Faults = words[i+1:]
			return s, nil
		default:
			*parts[at] = append(*parts[at], w)
		}
	}
	return s, nil
}

// Parse reads a sequence. Empty lines and what follows # are left out;
// "let NAME = EXPR" gives a name to a piece of text, written as @NAME afterwards;
// "each NAME in A B do LINE" repeats a line.
func Parse(r io.Reader) ([]Step, error) {
	var steps []Step
	lets := map[string]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "let "); ok {
			k, v, ok := strings.Cut(rest, "=")
			if !ok {
				return nil, fmt.Errorf("line %d: let without =", n)
			}
			lets[strings.TrimSpace(k)] = strings.TrimSpace(expand(v, lets))
			continue
		}
		if line == "" {
			continue
		}
		for _, l := range each(line, lets) {
			s, err := parseStep(l)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			steps = append(steps, s)
		}
	}
	return steps, sc.Err()
}

// each writes "each NAME in A B C do LINE" out, with @NAME in LINE standing for
// A, then B, then C. LINE may begin with each again.
func each(line string, lets map[string]string) []string {
	head, body, ok := strings.Cut(line, " do ")
	words := strings.Fields(expand(head, lets))
	if !ok || len(words) < 3 || words[0] != "each" || words[2] != "in" {
		return []string{expand(line, lets)}
	}
	inner := maps.Clone(lets)
	var out []string
	for _, w := range words[3:] {
		inner[words[1]] = w
		out = append(out, each(body, inner)...)
	}
	return out
}

// expand puts in what let has named; a leading @ with a digit is a locality and stays.
func expand(line string, lets map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(line, '@')
		if i < 0 {
			b.WriteString(line)
			return b.String()
		}
		b.WriteString(line[:i])
		n := i + 1
		for n < len(line) && isWord(line[n]) {
			n++
		}
		if v, ok := lets[line[i+1:n]]; ok {
			b.WriteString(v)
		} else {
			b.WriteString(line[i:n])
		}
		line = line[n:]
	}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
