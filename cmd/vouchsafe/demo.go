package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newDemoCommand(a *app) *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a vTPM and see a secret stay shut when the machine changes",
		Long: `Make a vTPM with its endorsement certificate, take ownership, seal a secret to the
state of the machine, have that state quoted, then change it: the secret must stay shut.
Everything is real: the commands go over swtpm's sockets, into a state directory that is
sealed on disk. Each line says what was checked. The exit code is 0 only if all of it held.`,
		Example: `  vouchsafe demo
  vouchsafe demo --keep evidence    # then: tpm2_checkquote -u evidence/ak.pem …`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), a, keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "leave the evidence in this new directory, for other people's tools")
	return cmd
}

// A demoStep is one line of the demo: it does something and says what it checked.
type demoStep struct {
	name   string
	en, zh string
	do     func(*demo) (detail string, err error)
}

// demoSteps are the story, in order.
var demoSteps = []demoStep{
	{"made", "a vTPM is made, with endorsement keys and certificates", "制造 vTPM，签发背书密钥证书", (*demo).made},
	{"genuine", "it proves that its endorsement key is the certified one", "证明其背书密钥就是证书里的那一个", (*demo).genuine},
	{"owned", "its owner takes it over", "所有者接管", (*demo).owned},
	{"sealed", "a secret is sealed to the state of the machine", "将秘密封存到机器状态", (*demo).sealed},
	{"quoted", "the state is quoted, and the quote verified", "引证机器状态并验证", (*demo).quoted},
	{"changed", "something else is measured into PCR 14", "向 PCR 14 度量了别的东西", (*demo).changed},
	{"shut", "the secret stays shut, and a new quote tells", "秘密打不开，新的引证说明原因", (*demo).shut},
	{"restored", "after a restart the state is as it was: it opens again", "重启后状态复原：秘密又能打开", (*demo).restored},
	{"kept", "another key cannot open the state on disk", "换一把密钥打不开磁盘上的状态", (*demo).kept},
}

// demoLine is the JSON of one step, and demoSummary of the whole; both are stable.
type demoLine struct {
	Step   string  `json:"step"`
	OK     bool    `json:"ok"`
	MS     float64 `json:"ms"`
	Detail string  `json:"detail"`
}

type demoSummary struct {
	Summary struct {
		OK bool    `json:"ok"`
		MS float64 `json:"ms"`
	} `json:"summary"`
}

func runDemo(ctx context.Context, a *app, keep string) error {
	if keep != "" {
		if err := os.Mkdir(keep, 0o700); errors.Is(err, os.ErrExist) {
			return withHint(fmt.Errorf("%s is there already", keep), "name a directory that is not, or remove it")
		} else if err != nil {
			return fmt.Errorf("making a place for the evidence: %w", err)
		}
	}
	d, err := newDemo(ctx, a, keep)
	if err != nil {
		return err
	}
	defer d.close()
	begin := time.Now()
	for i, s := range demoSteps {
		start := time.Now()
		detail, err := s.do(d)
		took := time.Since(start)
		if err != nil {
			detail = err.Error()
		}
		a.demoLine(i, s, demoLine{s.name, err == nil, ms(took), detail})
		if err != nil {
			a.demoSummary(false, time.Since(begin))
			return fmt.Errorf("the step %q did not hold: %w", s.name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.demoSummary(true, time.Since(begin))
	if keep != "" && !a.json {
		fmt.Fprintf(a.err, a.say("evidence: %s (README.txt there says what other tools make of it)\n", "证据：%s（其中 README.txt 说明如何用其他工具检验）\n"), keep)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (a *app) demoLine(i int, s demoStep, l demoLine) {
	if a.json {
		a.printJSON(l)
		return
	}
	mark := "ok"
	if !l.OK {
		mark = a.say("FAILED", "失败")
	}
	fmt.Fprintf(a.out, "%d. %s  (%s, %.1f ms)\n     %s\n", i+1, a.say(s.en, s.zh), mark, l.MS, l.Detail)
}

func (a *app) demoSummary(ok bool, took time.Duration) {
	var s demoSummary
	s.Summary.OK, s.Summary.MS = ok, ms(took)
	switch {
	case a.json:
		a.printJSON(s)
	case ok:
		fmt.Fprintf(a.out, a.say("All of it held, in %.0f ms.\n", "全部成立，用时 %.0f 毫秒。\n"), s.Summary.MS)
	}
}
