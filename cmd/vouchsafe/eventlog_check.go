package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
)

func newEventlogCheckCommand(a *app) *cobra.Command {
	var pcrs, ima string
	cmd := &cobra.Command{
		Use:   "check [--pcrs FILE] [--ima FILE] FILE",
		Short: "Find what is wrong with a log, and which boots measure too little",
		Long: `Find what is wrong with a log, and which boots measure too little.

Without --pcrs the log is looked at by itself: data that its digest contradicts,
separators that are missing or repeated, a kernel, command line or initrd that no
event measures; with --ima also the list's entries, and whether it is of the same
boot. With --pcrs it must also lead to these values: the output of
tpm2_pcrread, or a directory such as /sys/class/tpm/tpm0.

Only a quote proves PCR values to somebody else; a text file does not.
Exit code 0: nothing found, or only remarks. 3: errors or warnings.`,
		Example: `  vouchsafe eventlog check --pcrs /sys/class/tpm/tpm0 /sys/kernel/security/tpm0/binary_bios_measurements
  vouchsafe eventlog check --json boot.bin`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.readEventLog(args[0])
			if err != nil {
				return err
			}
			entries, err := a.readIMAList(ima)
			if err != nil {
				return err
			}
			found := append(l.Check(), l.CheckIMA(entries)...)
			compared := 0
			if pcrs != "" {
				values, err := a.readPCRValues(pcrs)
				if err != nil {
					return err
				}
				more, n, err := a.comparePCRs(l, entries, values)
				if err != nil {
					return err
				}
				found, compared = append(found, more...), n
			}
			return a.reportCheck(l, found, compared)
		},
	}
	cmd.Flags().StringVar(&pcrs, "pcrs", "", "the PCR values of the same boot: a file or a directory")
	cmd.Flags().StringVar(&ima, "ima", "", "the IMA list of the same boot, to explain PCR 10")
	return cmd
}

// comparePCRs replays every bank that both sides have. Without an IMA list PCR
// 10 cannot be explained and is left out.
func (a *app) comparePCRs(l *eventlog.Log, entries []eventlog.IMAEntry, values map[eventlog.Alg]map[int][]byte) ([]finding.Finding, int, error) {
	var replayed []*eventlog.Bank
	compared := 0
	for _, bank := range l.Algs {
		got := values[bank]
		if got == nil || !bank.Available() {
			continue
		}
		b, err := l.Replay(bank)
		if err != nil {
			return nil, 0, err
		}
		if len(entries) == 0 {
			delete(got, 10)
		} else if err := replayIMAOnto(b, entries, got[10]); err != nil {
			return nil, 0, err
		}
		compared += len(got)
		replayed = append(replayed, b)
	}
	if compared == 0 {
		return nil, 0, withHint(fmt.Errorf("the PCR values are of none of the log's banks %v", l.Algs), "tpm2_pcrread %v", l.Algs[len(l.Algs)-1])
	}
	return eventlog.ComparePCRs(replayed, values), compared, nil
}

// replayIMAOnto continues b with the list: hashed for this bank, or, if only
// that leads to the value, padded from SHA-1 as kernels without the hash do.
func replayIMAOnto(b *eventlog.Bank, entries []eventlog.IMAEntry, want []byte) error {
	start := b.PCR
	if err := eventlog.ReplayIMA(b, entries, false); err != nil {
		return err
	}
	if want == nil || bytes.Equal(b.PCR[10], want) {
		return nil
	}
	padded := *b
	padded.PCR = start
	if err := eventlog.ReplayIMA(&padded, entries, true); err != nil {
		return err
	}
	if bytes.Equal(padded.PCR[10], want) {
		*b = padded
	}
	return nil
}

func (a *app) reportCheck(l *eventlog.Log, found []finding.Finding, compared int) error {
	bad := finding.Worst(found) == finding.Error || finding.Worst(found) == finding.Warning
	for i := range found {
		found[i] = found[i].In(a.dataLang())
	}
	if a.json {
		if err := a.printJSON(map[string]any{"events": len(l.Events), "banks": bankNames(l.Algs), "pcrsCompared": compared,
			"measured": l.Measures(), "findings": append([]finding.Finding{}, found...)}); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			a.printEventFinding(f)
		}
		fmt.Fprintf(a.err, a.say("events: %d, findings: %d", "事件：%d，发现：%d"), len(l.Events), len(found))
		if compared > 0 {
			fmt.Fprintf(a.err, a.say(", PCR values compared: %d", "，已比较的 PCR 值：%d"), compared)
		} else {
			fmt.Fprint(a.err, a.say("; not compared with any PCR (--pcrs)", "；未与任何 PCR 比较（--pcrs）"))
		}
		fmt.Fprintln(a.err)
	}
	if bad {
		return errFindings
	}
	return nil
}

func bankNames(algs []eventlog.Alg) []string {
	var out []string
	for _, x := range algs {
		out = append(out, x.String())
	}
	return slices.Clip(out)
}
