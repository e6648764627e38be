package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
)

// whereLogsAre is the hint for a file that is no log.
const whereLogsAre = "/sys/kernel/security/tpm0/binary_bios_measurements"

func newEventlogCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eventlog",
		Short: "Read measured-boot logs: what a machine says about its boot, and what of it is proved",
		Args:  exactArgs(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventlogShowCommand(a), newEventlogReplayCommand(a), newEventlogCheckCommand(a), newEventlogPredictCommand(a))
	return cmd
}

// readAtMost reads a whole file, or standard input for "-", but never more than max bytes.
func (a *app) readAtMost(path string, max int64) ([]byte, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("reading %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, max+1))
	if err == nil && int64(len(b)) > max {
		err = fmt.Errorf("longer than %d bytes", max)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

// readEventLog reads and parses a TCG log.
func (a *app) readEventLog(path string) (*eventlog.Log, error) {
	b, err := a.readAtMost(path, eventlog.MaxSize)
	if err != nil {
		return nil, withHint(err, a.say("the log of this machine is %s", "本机的日志是 %s"), whereLogsAre)
	}
	l, err := eventlog.Parse(b)
	if err == nil {
		return l, nil
	}
	hint := a.say("take it from the machine again: cat %s > FILE", "请重新从机器上取得：cat %s > FILE")
	if _, ima := eventlog.ParseIMA(b); ima == nil && len(b) > 0 {
		hint = a.say("this looks like an IMA list: give it with --ima, and as FILE %s", "这像是 IMA 列表：请用 --ima 指定它，并以 %s 作为 FILE")
	}
	return nil, withHint(fmt.Errorf("reading %s: %w", path, err), hint, whereLogsAre)
}

func (a *app) readIMAList(path string) ([]eventlog.IMAEntry, error) {
	if path == "" {
		return nil, nil
	}
	b, err := a.readAtMost(path, eventlog.MaxIMASize)
	if err != nil {
		return nil, err
	}
	entries, err := eventlog.ParseIMA(b)
	if err != nil {
		return nil, withHint(fmt.Errorf("reading %s: %w", path, err), "%s",
			a.say("the binary list is wanted: /sys/kernel/security/ima/binary_runtime_measurements", "需要二进制列表：/sys/kernel/security/ima/binary_runtime_measurements"))
	}
	return entries, nil
}

// eventJSON is one event in JSON. It is stable.
type eventJSON struct {
	Number  int               `json:"event"`
	PCR     uint32            `json:"pcr"`
	Type    string            `json:"type"`
	Digests map[string]string `json:"digests"`
	Proved  eventlog.Binding  `json:"proved"`
	Text    string            `json:"text"`
	Meaning string            `json:"meaning"`
	Data    []byte            `json:"data"`
}

func newEventlogShowCommand(a *app) *cobra.Command {
	var pcr int
	var ima string
	cmd := &cobra.Command{
		Use:   "show [--pcr N] [--ima FILE] FILE",
		Short: "List the events in plain words, each with what is proved of its text",
		Long: `List the events in plain words, each with what is proved of its text.

"proved" says how event and digest belong together:
  yes     the digest is the hash of the text
  part    of a part of it (a variable's value without its name, for example)
  no      of something that is not in the log, such as a file: the text is a hint
  BROKEN  it must be the hash of the text and is not: somebody changed it
  -       the event was not extended, nothing stands behind it
All of it holds only as far as the log replays to PCR values that a TPM signed.`,
		Example: `  vouchsafe eventlog show /sys/kernel/security/tpm0/binary_bios_measurements
  vouchsafe eventlog show --pcr 9 boot.bin
  vouchsafe eventlog show --json boot.bin`,
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
			return a.showEvents(l, entries, pcr)
		},
	}
	cmd.Flags().IntVar(&pcr, "pcr", -1, "only events of this PCR")
	cmd.Flags().StringVar(&ima, "ima", "", "an IMA list of the same boot, shown after the events")
	return cmd
}

func (a *app) showEvents(l *eventlog.Log, entries []eventlog.IMAEntry, pcr int) error {
	w := a.table()
	if !a.json {
		fmt.Fprintf(w, "%s\tPCR\t%s\t%s\n", a.say("event", "事件"), a.say("proved", "已证明"), a.say("what it says", "内容"))
	}
	for i := range l.Events {
		e := &l.Events[i]
		if pcr >= 0 && e.PCR != uint32(pcr) {
			continue
		}
		proved, _ := e.Binding()
		if a.json {
			j := eventJSON{e.Number, e.PCR, e.Type.String(), map[string]string{}, proved, e.Text(), e.Meaning().In(a.dataLang()), e.Data}
			for _, d := range e.Digests {
				j.Digests[d.Alg.String()] = hex.EncodeToString(d.Sum)
			}
			if err := a.printJSON(j); err != nil {
				return err
			}
			continue
		}
		number := strconv.FormatUint(uint64(e.PCR), 10)
		if e.PCR > eventlog.MaxPCR {
			number = "-"
		}
		fmt.Fprintf(w, a.say("%d\t%s\t%s\t%s: %s [%v]\n", "%d\t%s\t%s\t%s：%s [%v]\n"), e.Number, number, a.proved(proved), e.Meaning().In(a.dataLang()), e.Text(), e.Type)
	}
	for i := range entries {
		e := &entries[i]
		if pcr >= 0 && e.PCR != uint32(pcr) {
			continue
		}
		if a.json {
			if err := a.printJSON(map[string]any{"ima": i, "pcr": e.PCR, "template": e.Template, "name": e.Name,
				"alg": e.FileAlg, "digest": hex.EncodeToString(e.FileHash), "violation": e.Violation()}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, a.say("IMA %d\t%d\t%s\t%s: %s [%s]\n", "IMA %d\t%d\t%s\t%s：%s [%s]\n"), i, e.PCR, a.proved(eventlog.Authenticated),
			a.say("measured by Linux before use", "Linux 在使用前度量"), e.Text(), e.Template)
	}
	return w.Flush()
}

func (a *app) proved(b eventlog.Binding) string {
	switch b {
	case eventlog.Authenticated:
		return a.say("yes", "是")
	case eventlog.PartlyAuthenticated:
		return a.say("part", "部分")
	case eventlog.Broken:
		return a.say("BROKEN", "不符")
	case eventlog.NotExtended:
		return "-"
	}
	return a.say("no", "否")
}

func newEventlogReplayCommand(a *app) *cobra.Command {
	var banks []string
	var ima string
	var all, padded bool
	cmd := &cobra.Command{
		Use:   "replay [--bank NAME]... [--ima FILE] FILE",
		Short: "Compute the PCR values that the log leads to",
		Long: `Compute the PCR values that the log leads to, written as tpm2_pcrread writes them.

An IMA list continues the log: its entries are extended into PCR 10.`,
		Example: `  vouchsafe eventlog replay boot.bin
  vouchsafe eventlog replay --bank sha256 --ima /sys/kernel/security/ima/binary_runtime_measurements boot.bin`,
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
			want, err := a.banksOf(l, banks)
			if err != nil {
				return err
			}
			for _, bank := range want {
				b, err := l.Replay(bank)
				if err == nil {
					err = eventlog.ReplayIMA(b, entries, padded)
				}
				if err == nil {
					err = a.printBank(b, all)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&banks, "bank", nil, "only this bank: sha256, sha384, … (repeatable; default: all of the log)")
	cmd.Flags().StringVar(&ima, "ima", "", "an IMA list of the same boot")
	cmd.Flags().BoolVar(&padded, "padded", false, "the kernel lacks this bank's hash and extended SHA-1 with zeros (Debian 6.1: sha384)")
	cmd.Flags().BoolVar(&all, "all", false, "also PCRs that nothing extended")
	return cmd
}

// banksOf is the log's banks that can be computed, or those that were asked for.
func (a *app) banksOf(l *eventlog.Log, names []string) ([]eventlog.Alg, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(l.Algs), func(x eventlog.Alg) bool { return !x.Available() }), nil
	}
	var out []eventlog.Alg
	for _, n := range names {
		x, err := eventlog.ParseAlg(n)
		if err != nil {
			return nil, usageError{err}
		}
		if !slices.Contains(l.Algs, x) {
			return nil, withHint(fmt.Errorf("the log has no %v digests", x), a.say("it has %v", "它有 %v"), l.Algs)
		}
		out = append(out, x)
	}
	return out, nil
}

func (a *app) printBank(b *eventlog.Bank, all bool) error {
	if !a.json {
		fmt.Fprintf(a.out, "  %v:\n", b.Alg)
	}
	for pcr, v := range b.PCR {
		extended := b.Extended&(1<<pcr) != 0
		switch {
		case !extended && !all:
		case a.json:
			if err := a.printJSON(map[string]any{"bank": b.Alg.String(), "pcr": pcr, "value": hex.EncodeToString(v), "extended": extended}); err != nil {
				return err
			}
		default:
			fmt.Fprintf(a.out, "    %-2d: 0x%X\n", pcr, v)
		}
	}
	return nil
}

// printEventFinding prints one finding for a person.
func (a *app) printEventFinding(f finding.Finding) {
	fmt.Fprintf(a.out, "%s%s\n    %s\n    %s\n    %s%s\n", a.coded(f), a.words(f.Subject), a.words(f.Evidence), f.Meaning, a.say("mend: ", "修复："), f.Remedy)
}

// readPCRValues reads a file of PCR values, or the directory in which Linux shows them.
func (a *app) readPCRValues(path string) (map[eventlog.Alg]map[int][]byte, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		files, err := filepath.Glob(filepath.Join(path, "pcr-*", "*"))
		if err != nil || len(files) == 0 {
			return nil, withHint(fmt.Errorf("reading %s: there is no pcr-sha256 in it", path), "%s", a.say("try /sys/class/tpm/tpm0, or a file: tpm2_pcrread > pcrs.txt", "请试 /sys/class/tpm/tpm0，或使用文件：tpm2_pcrread > pcrs.txt"))
		}
		var text strings.Builder
		for _, f := range files {
			v, err := a.readAtMost(f, 256)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&text, "%s %s %s\n", strings.TrimPrefix(filepath.Base(filepath.Dir(f)), "pcr-"), filepath.Base(f), strings.TrimSpace(string(v)))
		}
		return eventlog.ParsePCRs([]byte(text.String()))
	}
	b, err := a.readAtMost(path, 64<<10)
	if err != nil {
		return nil, err
	}
	pcrs, err := eventlog.ParsePCRs(b)
	if err != nil {
		return nil, withHint(fmt.Errorf("reading %s: %w", path, err), "%s", a.say("make it with: tpm2_pcrread > pcrs.txt", "可这样生成：tpm2_pcrread > pcrs.txt"))
	}
	return pcrs, nil
}
