package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Findings is every fault that Verify can name.
var Findings = finding.Catalog{
	{Code: "AUDIT_CHANGED", Severity: finding.Error,
		Meaning: finding.Text{EN: "What stands in the log is not what its signed checkpoint covers: a record was changed, or the checkpoint was.", ZH: "日志内容与已签名的检查点不符：有记录或检查点被改动。"},
		Remedy:  finding.Text{EN: "Take the log for evidence, not for truth. Find the record in a backup: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR, then compare NEWDIR/audit", ZH: "请将该日志作为取证材料保存，并在备份中找出该记录：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR，然后对比 NEWDIR/audit"}},
	{Code: "AUDIT_ORDER", Severity: finding.Error,
		Meaning: finding.Text{EN: "Records are missing, doubled or moved: the numbers do not follow each other.", ZH: "记录编号不连续：有记录被删除、重复或移动。"},
		Remedy:  finding.Text{EN: "Compare with a backup: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR, then vouchsafe audit verify --state NEWDIR", ZH: "请与备份对比：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR，然后 vouchsafe audit verify --state NEWDIR"}},
	{Code: "AUDIT_CUT", Severity: finding.Error,
		Meaning: finding.Text{EN: "A checkpoint was signed over more records than there are: the end of the log was cut off.", ZH: "检查点覆盖的记录比现存的多：日志末尾被截断。"},
		Remedy:  finding.Text{EN: "Restore the newest backup beside this log and compare: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "请在旁恢复最新备份并对比：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "AUDIT_FORKED", Severity: finding.Error,
		Meaning: finding.Text{EN: "A checkpoint kept elsewhere is signed by this log's key and says something else about the same records: the history was written anew.", ZH: "异地保存的检查点由本日志密钥签名，但内容不同：历史被重写。"},
		Remedy:  finding.Text{EN: "Whoever could do this holds the signing key: treat the control plane as taken over, and restore it elsewhere.", ZH: "能做到这一点的人掌握签名密钥：请视控制面已被攻破，并在别处恢复。"}},
	{Code: "AUDIT_UNREADABLE", Severity: finding.Error,
		Meaning: finding.Text{EN: "A part of the log cannot be read, although acknowledged records follow or a checkpoint covers it.", ZH: "日志的一部分无法读取，但其后仍有已确认的记录。"},
		Remedy:  finding.Text{EN: "Check the disk, then restore: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "请检查磁盘，然后恢复：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "AUDIT_CHECKPOINT_BAD", Severity: finding.Error,
		Meaning: finding.Text{EN: "A checkpoint is not signed by this log's key, or is no checkpoint.", ZH: "检查点不是由本日志密钥签名，或格式不正确。"},
		Remedy:  finding.Text{EN: "Make sure that file and key belong to this log: vouchsafe audit key", ZH: "请确认文件与密钥属于本日志：vouchsafe audit key"}},
	{Code: "AUDIT_CLOCK_BACK", Severity: finding.Warning,
		Meaning: finding.Text{EN: "The clock went back while records were written. Their times were held at the highest seen.", ZH: "写入记录时时钟曾倒退；记录时间保持在已见过的最大值。"},
		Remedy:  finding.Text{EN: "See why the clock moved: journalctl -u chrony -u systemd-timesyncd", ZH: "请查明时钟变动原因：journalctl -u chrony -u systemd-timesyncd"}},
	{Code: "AUDIT_UNFINISHED", Severity: finding.Info,
		Meaning: finding.Text{EN: "The log ends with bytes that were never acknowledged: the service stopped while it was writing.", ZH: "日志末尾有未确认的字节：服务在写入时停止。"},
		Remedy:  finding.Text{EN: "Nothing to do: the next start cuts them off.", ZH: "无需处理：下次启动时会自动截去。"}},
}

// Report is what Verify found.
type Report struct {
	Records     int64
	Checkpoints int // signed checkpoints inside the log that held
	Outside     int // checkpoints from elsewhere that held
	From, To    time.Time
	Root        string // of the last checkpoint
	Findings    []finding.Finding
}

// Outside is a checkpoint that was kept elsewhere: only such a one proves that
// the tail was not cut and the history not written anew.
type Outside struct {
	Name   string
	Signed []byte
}

// Verify reads the whole log in dir and compares it with its own checkpoints
// and with those kept elsewhere. It changes nothing and needs no secret; see
// gets every record that can be read, in order, and may be nil: what it got is
// true only if no finding is an error. Its memory does not grow with the log.
func Verify(dir, verifierKey string, outside []Outside, see func(Record)) (Report, error) {
	v := &verifier{key: verifierKey}
	for _, o := range outside {
		c, err := ParseCheckpoint(o.Signed, verifierKey)
		if err != nil {
			v.report("AUDIT_CHECKPOINT_BAD", o.Name, err.Error())
			continue
		}
		v.wanted = append(v.wanted, wanted{o.Name, c})
	}
	if signed, err := os.ReadFile(filepath.Join(dir, "checkpoint")); err == nil {
		if c, err := ParseCheckpoint(signed, verifierKey); err != nil {
			v.report("AUDIT_CHECKPOINT_BAD", filepath.Join(dir, "checkpoint"), err.Error())
		} else {
			v.inside = &wanted{filepath.Join(dir, "checkpoint"), c}
			v.wanted = append(v.wanted, *v.inside)
		}
	}
	slices.SortFunc(v.wanted, func(a, b wanted) int { return int(a.c.Size - b.c.Size) })
	firsts, err := segments(dir)
	if err != nil {
		return v.r, fmt.Errorf("verifying the audit log: %w", err)
	}
	v.compare()
	for i, first := range firsts {
		if err := v.segment(dir, first, i == len(firsts)-1, see); err != nil {
			return v.r, fmt.Errorf("verifying the audit log: %w", err)
		}
	}
	if !v.torn {
		for _, f := range v.forks {
			v.report("AUDIT_FORKED", f.subject, f.evidence)
		}
	}
	for _, w := range v.wanted { // those that no size matched
		v.report("AUDIT_CUT", w.name, fmt.Sprintf("it covers %d records, the log has %d", w.c.Size, v.tree.size))
	}
	v.r.Records = v.tree.size
	root := v.tree.root()
	v.r.Root = root.String()
	return v.r, nil
}

type wanted struct {
	name string
	c    Checkpoint
}

type verifier struct {
	key    string
	tree   frontier
	r      Report
	wanted []wanted // by size, those not yet reached
	inside *wanted
	held   int64 // records under the last checkpoint that held
	back   bool
	// differs: a root was wrong already, and that was reported.
	differs bool
	// forks are checkpoints that say something else than the log. That takes the
	// signing key only where the log holds by itself; in one that was torn, as by
	// one flipped bit, it says nothing more.
	forks []fork
	torn  bool
}

type fork struct{ subject, evidence string }

// maxFindings: a log that was torn apart needs no longer list.
const maxFindings = 50

func (v *verifier) report(code, subject, evidence string) {
	switch code {
	case "AUDIT_CHANGED", "AUDIT_ORDER", "AUDIT_UNREADABLE":
		v.torn = true
	}
	if len(v.r.Findings) >= maxFindings {
		return
	}
	v.r.Findings = append(v.r.Findings, Findings.New(code, subject, evidence))
}

// compare holds the checkpoints of the present size against the tree.
func (v *verifier) compare() {
	for len(v.wanted) > 0 && v.wanted[0].c.Size == v.tree.size {
		w := v.wanted[0]
		v.wanted = v.wanted[1:]
		switch {
		case w.c.Root != v.tree.root():
			v.forks = append(v.forks, fork{w.name, fmt.Sprintf("at %d records it says root %v, the log has %v", w.c.Size, w.c.Root, v.tree.root())})
		case v.inside == nil || w.name != v.inside.name:
			v.r.Outside++
		}
	}
}

func (v *verifier) segment(dir string, first int64, last bool, see func(Record)) error {
	name := segmentName(first)
	if first != v.tree.size {
		v.report("AUDIT_ORDER", name, fmt.Sprintf("it begins with record %d; %d were expected before it, %d are there", first, first, v.tree.size))
	}
	data, err := readSegment(dir, first)
	if err != nil {
		v.report("AUDIT_UNREADABLE", name, err.Error())
		return nil
	}
	var pending int
	for at := data; len(at) > 0; {
		kind, payload, rest, err := cutFrame(at)
		if err != nil {
			pending = len(at)
			if holdsCommit(at, v.key, v.held) {
				v.report("AUDIT_UNREADABLE", name, fmt.Sprintf("record %d cannot be read, and acknowledged ones follow", v.tree.size))
				return nil
			}
			break
		}
		at = rest
		if kind == frameCommit {
			v.checkpoint(name, payload)
			pending = 0
			continue
		}
		pending += frameHeader + len(payload)
		v.record(name, payload, see)
	}
	switch {
	case pending > 0 && last:
		v.report("AUDIT_UNFINISHED", name, fmt.Sprintf("%d bytes after the last checkpoint", pending))
	case pending > 0:
		v.report("AUDIT_UNREADABLE", name, fmt.Sprintf("%d bytes at its end make no sense", pending))
	}
	return nil
}

func (v *verifier) record(segment string, payload []byte, see func(Record)) {
	n := v.tree.size
	r, err := ParseRecord(payload)
	switch {
	case err != nil:
		v.report("AUDIT_CHANGED", fmt.Sprintf("record %d in %s", n, segment), err.Error())
	case r.N != n:
		v.report("AUDIT_ORDER", fmt.Sprintf("record %d in %s", n, segment), fmt.Sprintf("it calls itself record %d", r.N))
	case r.Time.Before(v.r.To):
		v.report("AUDIT_ORDER", fmt.Sprintf("record %d in %s", n, segment), fmt.Sprintf("its time %s is before the one ahead of it", r.Time.Format(time.RFC3339)))
	}
	if err == nil {
		if r.Clock != nil && !v.back {
			v.back = true
			v.report("AUDIT_CLOCK_BACK", fmt.Sprintf("record %d in %s", n, segment), fmt.Sprintf("the clock said %s, %s had been seen", r.Clock.Format(time.RFC3339), r.Time.Format(time.RFC3339)))
		}
		if v.r.From.IsZero() {
			v.r.From = r.Time
		}
		v.r.To = r.Time
		if see != nil {
			see(r)
		}
	}
	v.tree.add(payload)
	v.compare()
}

func (v *verifier) checkpoint(segment string, payload []byte) {
	c, err := ParseCheckpoint(payload, v.key)
	what := fmt.Sprintf("records %d to %d in %s", v.held, v.tree.size-1, segment)
	switch {
	case err != nil:
		v.report("AUDIT_CHECKPOINT_BAD", what, err.Error())
	case c.Size != v.tree.size:
		v.report("AUDIT_ORDER", what, fmt.Sprintf("its checkpoint covers %d records, %d are there", c.Size, v.tree.size))
	case c.Root != v.tree.root():
		if v.differs {
			break // every root after the first wrong one is wrong too
		}
		v.differs = true
		v.report("AUDIT_CHANGED", what, fmt.Sprintf("root %v, signed was %v", v.tree.root(), c.Root))
	default:
		v.r.Checkpoints++
	}
	v.held = v.tree.size
}
