package host

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// Findings are the faults of the vTPMs that lie on a host; those of a state by
// itself are package vtpm's. docs/findings/service.md has a longer entry for each.
var Findings = finding.Catalog{
	{Code: "VTPM_RECORD_DAMAGED", Severity: finding.Error,
		Meaning: finding.Text{EN: "What the host wrote down about this vTPM cannot be read or is not true of it: the host cannot ask for the right lease, and the VM does not start.", ZH: "宿主机对该 vTPM 的记录无法读取或与实际不符：宿主机无法申请正确的租约，虚拟机无法启动。"},
		Remedy:  finding.Text{EN: "Put {0}/vtpm.json back from the host's newest backup; where only its generation is wrong, write the one that the evidence names", ZH: "从宿主机的最新备份恢复 {0}/vtpm.json；若仅世代号有误，改为证据中给出的值"}},
	{Code: "VTPM_STATE_CLOSED", Severity: finding.Error,
		Meaning: finding.Text{EN: "No key on record opens this vTPM's state: it was changed, it is another VM's or another service's, or the service was set back.", ZH: "记录中没有密钥能打开该 vTPM 的状态：它被改动，属于另一虚拟机或另一服务，或者服务被回滚。"},
		Remedy:  finding.Text{EN: "Put {0} back from the host's newest backup. If there is none, its keys are lost: vouchsafe vm revoke {1} --reason 'state lost'; then make a new VM", ZH: "从宿主机的最新备份恢复 {0}。若没有备份，其密钥已丢失：vouchsafe vm revoke {1} --reason '状态丢失'；然后新建虚拟机"}},
	{Code: "VTPM_MISSING", Severity: finding.Error,
		Meaning: finding.Text{EN: "A VM belongs on this machine, and its vTPM is not here: it does not start, and its disks do not open.", ZH: "有虚拟机属于本机，但其 vTPM 不在：虚拟机无法启动，其磁盘无法打开。"},
		Remedy:  finding.Text{EN: "Put {0} back from the host's newest backup, or from the machine on which it was. If there is none, its keys are lost: vouchsafe vm revoke {1} --reason 'state lost'; then make a new VM", ZH: "从宿主机的最新备份或原来的机器恢复 {0}。若没有，其密钥已丢失：vouchsafe vm revoke {1} --reason '状态丢失'；然后新建虚拟机"}},
	{Code: "VTPM_UNKNOWN", Severity: finding.Warning,
		Meaning: finding.Text{EN: "A vTPM lies here that this machine does not carry: the service knows no such VM, or it belongs on another host. A second copy of a vTPM is a second copy of its keys.", ZH: "此处有一个不由本机承载的 vTPM：服务不认识该虚拟机，或它属于另一宿主机。vTPM 的第二份副本就是其密钥的第二份副本。"},
		Remedy:  finding.Text{EN: "If the service was restored from an older backup, restore the newest. Otherwise move it away: mv {0} /root/", ZH: "若服务从较旧的备份恢复，请恢复最新备份。否则请移走：mv {0} /root/"}},
	{Code: "VTPM_LEFTOVER", Severity: finding.Info,
		Meaning: finding.Text{EN: "Files lie here that nothing needs: a crash left them, or the VM was revoked.", ZH: "此处有不再需要的文件：由崩溃遗留，或虚拟机已吊销。"},
		Remedy:  finding.Text{EN: "Nothing needs to be done: the next start removes what a crash left. A revoked VM's directory may go when the host is stopped: rm -r {0}", ZH: "无需处理：下次启动会清除崩溃遗留的文件。已吊销虚拟机的目录可在宿主机停止后删除：rm -r {0}"}},
	{Code: "STATE_ROLLED_BACK", Severity: finding.Error,
		Meaning: finding.Text{EN: "The vTPM's state is older than the one that this machine told the service of last: no key for it is given out.", ZH: "该 vTPM 的状态比本机最后报告给服务的更旧：不会为其发放密钥。"},
		Remedy:  finding.Text{EN: "Find the newest copy of {0}, and put it back as a whole. If this one is the newest there is, and made since the VM's last start, start the VM, and then: vouchsafe vm accept-state --list. Beyond a start there is no way back", ZH: "找到 {0} 的最新副本并整体恢复。若这已是最新，且是在虚拟机上次启动之后制作的，请启动虚拟机，然后：vouchsafe vm accept-state --list。更早的启动则无法回退"}},
	{Code: "STATE_AHEAD", Severity: finding.Error,
		Meaning: finding.Text{EN: "The vTPM's state is newer than the service's record of it: the service was set back to an older backup.", ZH: "该 vTPM 的状态比服务的记录更新：服务被回滚到较旧的备份。"},
		Remedy:  finding.Text{EN: "Restore the newest backup. If this is the newest, start the VM, and then: vouchsafe vm accept-state {1} --generation {2} --reason TEXT", ZH: "恢复最新备份。若这已是最新，请启动虚拟机，然后：vouchsafe vm accept-state {1} --generation {2} --reason 说明"}},
}

// Record is what the service knows about a VM, for an examination.
type Record struct {
	Host                string
	Revoked             bool
	EKPublic            []byte
	Generation, Pending int64
	Writes              int64 // how often the state was written at least
	// Key is that of the state in a generation; nil: it cannot be had.
	Key func(generation int64) secret.Bytes
}

// Records finds the record of a VM as it is now, nil when there is none. Done
// erases its keys.
type Records func(vm string) (r *Record, done func(), err error)

// Examine reads what lies of vTPMs in a host's Dir. Nothing is locked, opened for
// good or changed: it may run beside the host, and what is seen must be so twice,
// since a vTPM in use is in the middle of a write now and then. hosts are the
// names that this machine has as a host, none when they are not known. Without
// records, which only the service has, only what stands in clear is examined.
func Examine(dir string, hosts []string, records Records) ([]finding.Finding, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []finding.Finding
	for _, e := range entries {
		if e.Name() == FileLock {
			continue
		}
		x := examination{vm: e.Name(), path: filepath.Join(dir, e.Name()), hosts: hosts, records: records}
		fs, err := x.once()
		if err == nil && len(fs) > 0 {
			time.Sleep(secondLook)
			var before []string
			for _, f := range fs {
				before = append(before, f.Code+" "+f.Subject)
			}
			fs, err = x.once()
			fs = slices.DeleteFunc(fs, func(f finding.Finding) bool { return !slices.Contains(before, f.Code+" "+f.Subject) })
		}
		if err != nil {
			return out, err
		}
		out = append(out, fs...)
	}
	return out, nil
}

// secondLook is longer than the moment between two files of one write.
const secondLook = 100 * time.Millisecond

// examination is of one vTPM's directory.
type examination struct {
	vm, path string
	hosts    []string
	records  Records

	fs []finding.Finding
}

func (x *examination) add(code, subject, evidence string, args ...string) {
	x.fs = append(x.fs, Findings.New(code, subject, evidence, append([]string{x.path, x.vm}, args...)...))
}

func (x *examination) once() ([]finding.Finding, error) {
	x.fs = nil
	if info, err := os.Lstat(x.path); err != nil || !info.IsDir() {
		if err == nil {
			x.add("VTPM_UNKNOWN", x.path, "it is no directory of a vTPM")
		}
		return x.fs, nil
	}
	var known *Record
	if x.records != nil {
		r, done, err := x.records(x.vm)
		if err != nil {
			return nil, err
		}
		defer done()
		known = r
	}
	x.leftovers()
	written, err := readRecord(filepath.Join(x.path, fileRecord))
	switch {
	case errors.Is(err, fs.ErrNotExist) && known != nil && !known.Revoked:
		x.add("VTPM_MISSING", x.path, "there is no "+fileRecord)
		return x.fs, nil
	case errors.Is(err, fs.ErrNotExist):
		if len(vtpm.States(x.path)) > 0 || exists(filepath.Join(x.path, fileBirth)) {
			x.add("VTPM_LEFTOVER", x.path, "making the vTPM was cut off; it is made anew")
		}
		return x.fs, nil
	case err != nil:
		x.add("VTPM_RECORD_DAMAGED", filepath.Join(x.path, fileRecord), err.Error())
		written.Generation = unreadable
	}
	switch {
	case known == nil && x.records != nil && written.Generation > 0:
		x.add("VTPM_UNKNOWN", x.path, "the service has no record of "+x.vm)
	case known != nil && len(x.hosts) > 0 && !slices.Contains(x.hosts, known.Host):
		x.add("VTPM_UNKNOWN", x.path, x.vm+" belongs on host "+known.Host)
	case known != nil && known.Revoked:
		x.add("VTPM_LEFTOVER", x.path, "the VM was revoked")
		return x.fs, nil // nothing opens it any more, whatever is in it
	}
	if err == nil && known != nil && !bytes.Equal(written.EKPublic, known.EKPublic) {
		x.add("VTPM_RECORD_DAMAGED", filepath.Join(x.path, fileRecord), "its endorsement key is not the one that "+x.vm+" was born with")
		return x.fs, nil // so the keys are not this state's either
	}
	x.state(written, known)
	return x.fs, nil
}

// leftovers of writes that were cut off: package durable's and package vtpm's.
func (x *examination) leftovers() {
	entries, _ := os.ReadDir(x.path)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") || strings.HasSuffix(e.Name(), ".tmp") {
			x.add("VTPM_LEFTOVER", filepath.Join(x.path, e.Name()), "a write that did not finish")
		}
	}
}

// state examines the state file under every key that it may have.
func (x *examination) state(written record, known *Record) {
	var of []int64 // the generation of each key
	var keys []vtpm.Key
	if birth, err := os.ReadFile(filepath.Join(x.path, fileBirth)); err == nil {
		if written.Generation > 0 && known != nil && known.Pending == 0 {
			x.add("VTPM_LEFTOVER", filepath.Join(x.path, fileBirth), "a lease has sealed the state since")
		}
		of, keys = append(of, 0), append(keys, vtpm.Key{Secret: secret.New(birth)})
	}
	if known != nil && known.Key != nil {
		for _, g := range generations(written.Generation, known.Generation, known.Pending) {
			of, keys = append(of, g), append(keys, vtpm.Key{Secret: known.Key(g)})
		}
	}
	defer func() {
		for _, k := range keys {
			k.Secret.Erase()
		}
	}()
	which, err := vtpm.Examine(x.path, keys...)
	if (known == nil || known.Key == nil) && wrongKey(err) { // a lease has sealed it, whose key is the service's
		_, err = vtpm.Examine(x.path)
	}
	var r *vtpm.Refusal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.add("VTPM_MISSING", x.path, "there is no vtpm.state")
	case wrongKey(err):
		x.add("VTPM_STATE_CLOSED", x.path, fmt.Sprintf("the service's record is of generation %d, and none of %d keys opens it", known.Generation, len(keys)))
	case errors.As(err, &r):
		x.fs = append(x.fs, r.Finding)
	case err != nil:
		x.add("VTPM_RECORD_DAMAGED", x.path, err.Error())
	case known != nil && which >= 0:
		x.compare(of[which], written.Generation, known)
		x.count(of[which], known)
	}
}

// compare is of generations: the state's own, the one written down, and those on
// record. A crash between sealing and writing down leaves the state one ahead.
func (x *examination) compare(state, written int64, known *Record) {
	newest := max(known.Generation, known.Pending)
	switch {
	case state < known.Generation:
		x.add("STATE_ROLLED_BACK", x.path, fmt.Sprintf("the state is of generation %d, the service's record of %d", state, known.Generation))
	case state > newest:
		x.add("STATE_AHEAD", x.path, fmt.Sprintf("the state is of generation %d, the service's record only of %d", state, newest), fmt.Sprint(state))
	case written == unreadable: // said already
	case written != state && written != state-1 || written < known.Generation:
		x.add("VTPM_RECORD_DAMAGED", filepath.Join(x.path, fileRecord), fmt.Sprintf("it says generation %d, and the state is of %d", written, state))
	}
}

// count tells a copy that was made since the last start from the newest state.
// The record was read before the file, which is written before it is on record.
func (x *examination) count(state int64, known *Record) {
	n, err := vtpm.Written(x.path)
	if err == nil && state >= known.Generation && signed(n) < known.Writes {
		x.add("STATE_ROLLED_BACK", x.path, fmt.Sprintf("the state was written %d times, the one on the service's record %d times", n, known.Writes))
	}
}

// unreadable stands for the generation in a vtpm.json that makes no sense.
const unreadable = -1

// oldest bounds how many old generations are tried to tell how old a state is.
const oldest = 4096

// generations are those whose key may open a state, the likeliest first. Older
// ones are tried to say how old it is.
func generations(written, recorded, pending int64) []int64 {
	var all []int64
	for _, g := range []int64{written, written + 1, recorded, pending} {
		if g > 0 && !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	newest := max(recorded, pending)
	for g := newest - 1; g > 0 && g > newest-oldest; g-- {
		if !slices.Contains(all[:min(len(all), 4)], g) {
			all = append(all, g)
		}
	}
	return all
}

// maxRecord bounds vtpm.json; an endorsement key has less than 600 bytes.
const maxRecord = 16 << 10

// readRecord is strict where OpenState need not be: nobody waits for it.
func readRecord(path string) (record, error) {
	var r record
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return r, err
	}
	if len(b) > maxRecord {
		return r, fmt.Errorf("it has more than %d bytes", maxRecord)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, errors.New("it is not the JSON that the host writes")
	}
	if _, err := x509.ParsePKIXPublicKey(r.EKPublic); err != nil || r.Generation < 0 {
		return record{}, errors.New("it has no endorsement key, or no generation")
	}
	return r, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
