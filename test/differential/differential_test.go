package differential

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

var (
	theirs = flag.String("theirs", "swtpm socket", "the TPM to compare with: a command line before swtpm's options")
	ours   = flag.String("ours", "engine", "ours: engine, for the one in this process, or a command line likewise")
	shrink = flag.Bool("shrink", false, "make sequences with a difference short and keep them")
	replay = flag.String("replay", "", "a transcript to replay")
	keep   = flag.String("transcripts", "", "the folder for transcripts of differences; a temporary one when empty")
)

// neighbours skips when what we compare with is not here.
func neighbours(t *testing.T) {
	t.Helper()
	argv := strings.Fields(*theirs)
	if _, err := exec.LookPath(argv[0]); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: apt-get install swtpm", argv[0])
		}
		t.Skipf("%s is not installed: apt-get install swtpm", argv[0])
	}
}

func table(t *testing.T) []*accepted {
	t.Helper()
	f, err := os.Open("accepted.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := readAccepted(f)
	if err != nil {
		t.Fatalf("accepted.txt: %v", err)
	}
	return rows
}

func open(which string) (TPM, error) {
	if which == "engine" {
		return newEngineTPM()
	}
	return newSocketTPM(strings.Fields(which)...)
}

// fresh makes a pair of TPMs that have never been started.
func fresh(rows []*accepted) (*Pair, func(), error) {
	a, err := open(*theirs)
	if err != nil {
		return nil, nil, err
	}
	b, err := open(*ours)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return NewPair(a, b, rows), func() { a.Close(); b.Close() }, nil
}

func runFresh(rows []*accepted) func([]Step) (Result, error) {
	return func(steps []Step) (Result, error) {
		p, end, err := fresh(rows)
		if err != nil {
			return Result{}, err
		}
		defer end()
		return Run(p, steps)
	}
}

// report says where two TPMs differ. With -shrink it makes the sequence short
// first and keeps it as a transcript.
func report(t *testing.T, name string, steps []Step, at int, d Difference, rows []*accepted) {
	t.Helper()
	if !*shrink {
		t.Errorf("%s\n\t%s\n\t(%s; -shrink makes it short)", d, steps[at], name)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", d)
	for _, s := range Shrink(slices.Clone(steps[:at+1]), d, runFresh(rows)) {
		fmt.Fprintln(&b, s)
	}
	dir := *keep
	if dir == "" {
		dir = os.TempDir()
	}
	file := filepath.Join(dir, name+".txt")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
	t.Errorf("%s\nreplay: go test ./differential -run TestReplay -replay %s\n%s", d, file, b.String())
}

// TestDirected runs the sequences in testdata.
func TestDirected(t *testing.T) {
	neighbours(t)
	rows := table(t)
	seen := coverage{}
	defer func() { t.Log(seen); logOpen(t, rows) }()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sequences: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for i, steps := range scenes(t, file) {
				told := map[string]bool{}
				for again := true; again; { // after a command that only one side did, once more without it
					p, end, err := fresh(rows)
					if err != nil {
						t.Fatal(err)
					}
					r, err := Run(p, steps)
					end()
					if err != nil {
						t.Error(err)
					}
					seen.add(r)
					for j, at := range r.At {
						key := steps[at].String() + r.Diffs[j].String()
						if !told[key] {
							report(t, fmt.Sprintf("%s-%d-%d", strings.TrimSuffix(filepath.Base(file), ".txt"), i+1, at+1), steps, at, r.Diffs[j], rows)
						}
						told[key] = true
					}
					if again = r.Stopped && len(r.At) > 0; again {
						last := r.At[len(r.At)-1]
						steps = slices.Delete(slices.Clone(steps), last, last+1)
					}
				}
			}
		})
	}
}

// logOpen names the differences that are in the table only until they are mended.
func logOpen(t *testing.T, rows []*accepted) {
	t.Helper()
	for _, r := range rows {
		if r.used > 0 && strings.HasPrefix(r.reason, "open:") {
			t.Logf("%4d times %s", r.used, r)
		}
	}
}

// coverage counts response codes by command.
type coverage map[string]map[uint32]int

func (c coverage) add(r Result) {
	for name, codes := range r.Codes {
		if c[name] == nil {
			c[name] = map[uint32]int{}
		}
		for rc, n := range codes {
			c[name][rc] += n
		}
	}
}

// String tells how many commands there were and which never succeeded or never failed.
func (c coverage) String() string {
	total, pairs := 0, 0
	var never, always, absent []string
	for _, info := range tpm2.Infos() {
		codes := c[info.Name]
		switch {
		case len(codes) == 0:
			absent = append(absent, info.Name)
		case codes[0] == 0:
			never = append(never, info.Name)
		case len(codes) == 1:
			always = append(always, info.Name)
		}
	}
	for _, codes := range c {
		for rc, n := range codes {
			total += n
			if rc != 0 {
				pairs++
			}
		}
	}
	return fmt.Sprintf("%d commands, %d pairs of command and error\nnot sent: %v\nnever succeeded: %v\nnever failed: %v", total, pairs, absent, never, always)
}

// scenes cuts a file at lines of dashes: each scene begins with fresh TPMs.
// What comes before the first such line is let definitions for all of them.
func scenes(t *testing.T, file string) [][]Step {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "\n---")
	var out [][]Step
	for _, part := range parts[1:] {
		_, part, _ = strings.Cut(part, "\n")
		steps, err := Parse(strings.NewReader(parts[0] + "\n" + part))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, steps)
	}
	return out
}

// TestReplay runs one transcript and prints both answers of every step.
func TestReplay(t *testing.T) {
	if *replay == "" {
		t.Skip("no -replay")
	}
	f, err := os.Open(*replay)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	p, end, err := fresh(table(t))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	trace := func(s *side) {
		s.tpm = &traced{TPM: s.tpm, label: s.label, t: t}
	}
	trace(p.theirs)
	trace(p.ours)
	for _, st := range steps {
		t.Log(st)
		o, err := p.Step(st)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range o.Diffs {
			t.Error(d)
		}
	}
}

type traced struct {
	TPM
	label string
	t     *testing.T
}

func (x *traced) Execute(loc uint8, cmd []byte) ([]byte, error) {
	rsp, err := x.TPM.Execute(loc, cmd)
	x.t.Logf("  %-6s > %x\n         < %x", x.label, cmd, rsp)
	return rsp, err
}
