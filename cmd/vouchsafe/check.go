package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
	"github.com/vouchsafe/vouchsafe/internal/store"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// checkFindings are the faults of a state directory that check names itself;
// those of the audit log have their own catalogue.
var checkFindings = finding.Catalog{
	{Code: "STATE_OPEN", Severity: finding.Error,
		Meaning: finding.Text{EN: "Others on this machine can read or change a file that holds or protects keys.", ZH: "本机其他用户可读取或修改保存或保护密钥的文件。"},
		Remedy:  finding.Text{EN: "chmod -R go= {0}; then find out who could read it, and take its keys for known", ZH: "chmod -R go= {0}；然后查明谁可能读取过，并视密钥已泄露"}},
	{Code: "STATE_OWNER", Severity: finding.Error,
		Meaning: finding.Text{EN: "A file in the state directory belongs to another user than the directory: that user can change it, or the service cannot.", ZH: "状态目录中有文件属于另一用户：该用户可以改动它，或者服务无法改动它。"},
		Remedy:  finding.Text{EN: "If you made it so, by a command run as root: chown -R {0} {1}. If not, find out who did", ZH: "若是以 root 运行命令所致：chown -R {0} {1}。否则请查明是谁所为"}},
	{Code: "VTPMS_ELSEWHERE", Severity: finding.Warning,
		Meaning: finding.Text{EN: "This service carried vTPMs itself, and none of them is here: a backup of the service has no vTPMs in it.", ZH: "该服务曾自行承载 vTPM，而此处一个也没有：服务的备份不包含 vTPM。"},
		Remedy:  finding.Text{EN: "Stop the old service, then bring its vTPMs: cp -a OLD/vtpms {0}/", ZH: "停止旧服务，然后迁入其 vTPM：cp -a OLD/vtpms {0}/"}},
	{Code: "STATE_INCOMPLETE", Severity: finding.Error,
		Meaning: finding.Text{EN: "A file of the service is missing.", ZH: "服务缺少一个文件。"},
		Remedy:  finding.Text{EN: "Put it back if it was moved; else: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "若被移走请放回；否则：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "RECOVERY_KEY_HERE", Severity: finding.Warning,
		Meaning: finding.Text{EN: "The recovery key still lies on this machine: whoever takes the machine can open every backup and act as the root CA, and when the machine is lost no backup opens any more.", ZH: "恢复密钥仍在本机：拿到本机者可打开所有备份并充当根 CA；而本机丢失时备份将无法打开。"},
		Remedy:  finding.Text{EN: "Copy it to two places away from here, then: shred -u {0}", ZH: "复制到本机之外的两个地方，然后：shred -u {0}"}},
	{Code: "ROOT_KEY_CLOSED", Severity: finding.Error,
		Meaning: finding.Text{EN: "The root key does not open: without it no key of the service does, so the keys, VMs and approvals were not looked at.", ZH: "根密钥无法打开：没有它，服务的任何密钥都无法打开，因此未检查密钥、虚拟机与批准。"},
		Remedy:  finding.Text{EN: "Mend what is said of its files (STATE_OPEN, STATE_OWNER, STATE_INCOMPLETE) and look again. If that is not it: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "先处理针对其文件的问题（STATE_OPEN、STATE_OWNER、STATE_INCOMPLETE），再次检查。若仍如此：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "ROTATION_UNFINISHED", Severity: finding.Warning,
		Meaning: finding.Text{EN: "A rotation of the root key was cut off. Nothing is lost: both root keys open until it is finished.", ZH: "根密钥轮换被中断。没有丢失任何内容：完成之前新旧根密钥都能打开。"},
		Remedy:  finding.Text{EN: "Start the server, which finishes it, or: vouchsafe key rotate root", ZH: "启动服务器即可完成，或：vouchsafe key rotate root"}},
	{Code: "STORE_DAMAGED", Severity: finding.Error,
		Meaning: finding.Text{EN: "The store does not agree with itself.", ZH: "数据库自相矛盾。"},
		Remedy:  finding.Text{EN: "Keep a copy of it, then: vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "请保留副本，然后：vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "KEY_DAMAGED", Severity: finding.Error,
		Meaning: finding.Text{EN: "A key on record does not open under the root key: it was changed, moved from another place, or belongs to another service.", ZH: "记录中的密钥无法用根密钥打开：被改动、从别处移来，或属于其他服务。"},
		Remedy:  finding.Text{EN: "vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "APPROVAL_CHANGED", Severity: finding.Error,
		Meaning: finding.Text{EN: "An approved boot on record is not signed by its tenant's policy key: somebody wrote it past the service. The service believes none of that VM's approvals until it is gone.", ZH: "记录中的某个已批准启动并非由租户策略密钥签名：有人绕过服务写入。在其消失之前，服务不采信该虚拟机的任何批准。"},
		Remedy:  finding.Text{EN: "Find out who can write to the store; then vouchsafe policy withdraw {0} VERSION, or restore", ZH: "查明谁能写数据库；然后 vouchsafe policy withdraw {0} VERSION，或恢复备份"}},
	{Code: "AUTHORITY_BROKEN", Severity: finding.Error,
		Meaning: finding.Text{EN: "A certificate authority of the service does not chain to its root, or its key is not its own.", ZH: "服务的某个证书颁发机构与根不符，或密钥不属于它。"},
		Remedy:  finding.Text{EN: "vouchsafe restore FILE --recovery KEYFILE --state NEWDIR", ZH: "vouchsafe restore FILE --recovery KEYFILE --state NEWDIR"}},
	{Code: "AUTHORITY_EXPIRES", Severity: finding.Warning,
		Meaning: finding.Text{EN: "A certificate authority ends soon: what it issued ends with it.", ZH: "某个证书颁发机构即将到期：其签发的证书将一同失效。"},
		Remedy:  finding.Text{EN: "With the service stopped: vouchsafe key rotate ca/{0} --recovery KEYFILE. A root that ends wants a new service: vouchsafe init --state NEWDIR", ZH: "停止服务后：vouchsafe key rotate ca/{0} --recovery KEYFILE。根到期则需新建服务：vouchsafe init --state NEWDIR"}},
	{Code: "STORE_AHEAD_OF_AUDIT", Severity: finding.Error,
		Meaning: finding.Text{EN: "The store knows a VM whose birth the audit log does not: the log was replaced or cut, or somebody wrote to the store.", ZH: "数据库中有审计日志未记载其诞生的虚拟机：日志被替换或截断，或有人改写了数据库。"},
		Remedy:  finding.Text{EN: "Compare with a checkpoint kept elsewhere: vouchsafe audit verify --checkpoint FILE", ZH: "请与异地检查点对比：vouchsafe audit verify --checkpoint FILE"}},
	{Code: "REVOCATION_UNFINISHED", Severity: finding.Error,
		Meaning: finding.Text{EN: "A revoked VM or host still has a certificate that is good: the service stopped in the middle of revoking, or somebody wrote to the store past it.", ZH: "已吊销的虚拟机或宿主机仍持有有效证书：服务在吊销过程中停止，或有人绕过服务改写了数据库。"},
		Remedy:  finding.Text{EN: "vouchsafe {0} --reason 'finish what was begun'", ZH: "vouchsafe {0} --reason '完成未尽的吊销'"}},
	{Code: "REVOCATION_UNDONE", Severity: finding.Error,
		Meaning: finding.Text{EN: "The audit log says that this VM or host was revoked, and the store says that it was not: somebody wrote to the store past the service.", ZH: "审计日志记载该虚拟机或宿主机已吊销，数据库却并非如此：有人绕过服务改写了数据库。"},
		Remedy:  finding.Text{EN: "vouchsafe {0} --reason 'it was revoked before'; then find out who can write to the store", ZH: "vouchsafe {0} --reason '此前已吊销'；然后查明谁能写数据库"}},
	{Code: "CLOCK_BEHIND", Severity: finding.Warning,
		Meaning: finding.Text{EN: "The clock is before the newest record: it was set back, or was ahead when that was written.", ZH: "时钟早于最新记录：时钟被调回，或写入时时钟超前。"},
		Remedy:  finding.Text{EN: "Set the clock right: timedatectl", ZH: "请校准时钟：timedatectl"}},
}

func newCheckCommand(a *app) *cobra.Command {
	var state string
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Examine every store of the service, and explain what is wrong",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			outside, err := readCheckpoints(checkpoints)
			if err != nil {
				return err
			}
			fs, err := examine(cmd.Context(), dir, outside)
			if err != nil {
				return err
			}
			if a.json {
				for _, f := range fs {
					if err := a.printJSON(f.In(a.dataLang())); err != nil {
						return err
					}
				}
				return worst(fs)
			}
			a.printFindings(fs)
			if len(fs) == 0 {
				a.sayAllHold(dir)
			}
			return worst(fs)
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringSliceVar(&checkpoints, "checkpoint", nil, "audit checkpoint that was kept elsewhere; may be repeated")
	return cmd
}

// examiner collects findings about one state directory.
type examiner struct {
	place string // what dir is called in findings: restore looks before it puts in place
	dir   string
	fs    []finding.Finding
	known [][2]string // tenant and name of every VM in the store
	// revoked are those of them that the store calls revoked.
	revoked map[[2]string]bool
	// revokedHosts are the hosts that the store calls revoked, by tenant and name.
	revokedHosts map[[2]string]bool

	// What inside opened, until close; nil when it did not open.
	store  *store.Store
	ring   *keyring.Ring
	unlock func() error
	// inMemory are files of the directory that a restore has not written yet.
	inMemory map[string][]byte
	// carries are the hosts that "up" was on this machine, says the audit log.
	carries []string
}

func (e *examiner) add(code, subject, evidence string, args ...string) {
	there := strings.NewReplacer(e.dir, e.place)
	for i := range args {
		args[i] = there.Replace(args[i])
	}
	e.fs = append(e.fs, checkFindings.New(code, there.Replace(subject), there.Replace(evidence), args...))
}

// examine looks at everything in a state directory, as far as each part can be
// reached, also while the service runs.
func examine(ctx context.Context, dir string, outside []audit.Outside) ([]finding.Finding, error) {
	return newExaminer(dir).examine(ctx, outside)
}

func newExaminer(dir string) *examiner {
	return &examiner{dir: filepath.Clean(dir), place: dir, revoked: map[[2]string]bool{}, revokedHosts: map[[2]string]bool{}}
}

func (e *examiner) examine(ctx context.Context, outside []audit.Outside) ([]finding.Finding, error) {
	if onlyHost(e.dir) {
		e.files()
		e.vtpms(ctx)
		return e.fs, nil
	}
	file, err := readService(e.dir)
	if err != nil {
		return nil, err
	}
	const write = 2 // access(2): W_OK
	if syscall.Access(e.dir, write) == syscall.EROFS {
		return nil, withHint(fmt.Errorf("%s is mounted read-only, and the store in it opens only where it can be locked", e.place), "cp -a %s COPY && vouchsafe check --state COPY", e.place)
	}
	e.complete()
	e.files()
	defer e.close()
	e.inside(ctx, file)
	// The log comes after the store: it must know at least what that knew before.
	e.auditLog(file, outside)
	e.vtpms(ctx)
	return e.fs, nil
}

func (e *examiner) close() {
	if e.store != nil {
		e.store.Close()
	}
	if e.unlock != nil {
		e.unlock()
	}
}

// inside opens what the root key opens.
func (e *examiner) inside(ctx context.Context, file serviceFile) {
	var err error
	if e.unlock, err = lockRoot(e.dir, true); err != nil {
		e.add("ROOT_KEY_CLOSED", filepath.Join(e.dir, fileRootLock), err.Error())
		return
	}
	if unfinishedRoot(e.dir) {
		e.add("ROTATION_UNFINISHED", "root", "a rotation of the root key was cut off")
	}
	roots, err := e.rootKeys(ctx)
	if err != nil {
		e.add("ROOT_KEY_CLOSED", filepath.Join(e.dir, fileSealed), err.Error())
		return // nothing else opens
	}
	ring := roots.ring()
	st, err := openStore(ctx, e.dir, time.Now)
	if errors.Is(err, os.ErrNotExist) {
		return // reported by complete
	}
	if err != nil {
		e.add("STORE_DAMAGED", filepath.Join(e.dir, fileStore), err.Error())
		return
	}
	e.store, e.ring = st, ring
	bad, err := st.Check(ctx)
	if err != nil {
		bad = append(bad, err.Error())
	}
	for _, b := range bad {
		e.add("STORE_DAMAGED", filepath.Join(e.dir, fileStore), b)
	}
	e.keys(ctx, st, ring)
	e.authorities(ctx, file, st, ring)
	e.policies(ctx, st, ring)
	e.vms(ctx, st, ring)
}

func (e *examiner) rootKeys(ctx context.Context) (rootKeys, error) {
	text, ok := e.inMemory[fileRootKey]
	if !ok {
		return openRootKeys(ctx, e.dir)
	}
	key, err := seal.ParseKey(text)
	if err != nil {
		return rootKeys{}, fmt.Errorf("reading %s: %w", fileRootKey, err)
	}
	return rootKeysBy(ctx, e.dir, key)
}

// complete: every file of a service is there.
func (e *examiner) complete() {
	for _, name := range append([]string{fileStore, dirAudit}, backupFiles...) {
		if _, ok := e.inMemory[name]; ok {
			continue
		}
		if _, err := os.Stat(filepath.Join(e.dir, filepath.FromSlash(name))); errors.Is(err, os.ErrNotExist) {
			e.add("STATE_INCOMPLETE", filepath.Join(e.dir, name), "it is not there")
		}
	}
}

// files: one user's, and nobody else's to read.
func (e *examiner) files() {
	owner, _ := ownerOf(e.dir)
	filepath.WalkDir(e.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // reported by complete when it matters
		}
		info, err := d.Info()
		if err != nil || info.Mode().Type() == fs.ModeSymlink {
			return nil
		}
		if d.IsDir() && path == filepath.Join(e.dir, dirSockets) {
			return fs.SkipDir // --socket-group lets others in, and no key is in there
		}
		if info.Mode().Perm()&0o077 != 0 {
			e.add("STATE_OPEN", path, fmt.Sprintf("mode %04o", info.Mode().Perm()), e.dir)
		}
		if uid, ok := ownerOf(path); ok && uid != owner {
			e.add("STATE_OWNER", path, fmt.Sprintf("it belongs to user %d, the directory to user %d", uid, owner), fmt.Sprint(owner), e.dir)
		}
		return nil
	})
	if path := filepath.Join(e.dir, fileRecovery); exists(path) {
		e.add("RECOVERY_KEY_HERE", path, "it is there", path)
	}
}

func ownerOf(path string) (uid uint32, ok bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// auditLog verifies the log, and that it saw every VM of the store being born.
func (e *examiner) auditLog(file serviceFile, outside []audit.Outside) {
	born, revoked := map[[2]string]bool{}, map[[2]string]bool{}
	hosts, begun := map[[2]string]bool{}, map[int64]bool{} // revoked by the log; and before a reinstatement, by its number
	r, err := audit.Verify(filepath.Join(e.dir, dirAudit), file.AuditKey, outside, func(r audit.Record) {
		if r.Action == "vm.born" && r.Phase == audit.Intent {
			born[[2]string{r.Tenant, r.Object}] = true
		}
		if r.Action == "vm.revoked" && r.Phase == audit.Done {
			revoked[[2]string{r.Tenant, r.Object}] = true
		}
		// Revoked when that was done; reinstated as soon as it was begun, as the store may
		// have it already, unless it then failed.
		switch host := [2]string{r.Tenant, r.Object}; {
		case r.Action == "host.revoked" && r.Phase == audit.Done:
			hosts[host] = true
		case r.Action == "host.reinstated" && r.Phase == audit.Intent:
			begun[r.N], hosts[host] = hosts[host], false
		case r.Action == "host.reinstated" && r.Phase == audit.Failed && r.Ref != nil:
			hosts[host] = begun[*r.Ref]
		}
		if r.Action == "host.saved" && r.Actor == "service" && !slices.Contains(e.carries, r.Object) {
			e.carries = append(e.carries, r.Object)
		}
	})
	if err != nil {
		e.add("STATE_INCOMPLETE", filepath.Join(e.dir, dirAudit), err.Error())
	}
	for _, f := range r.Findings {
		// A running service is in the middle of a write now and then.
		if f.Code != "AUDIT_UNFINISHED" {
			e.fs = append(e.fs, f)
		}
	}
	for _, vm := range e.known {
		if !born[vm] {
			e.add("STORE_AHEAD_OF_AUDIT", vm[1], "tenant "+vm[0]+": no record of its birth")
		}
		if revoked[vm] && !e.revoked[vm] {
			e.add("REVOCATION_UNDONE", vm[1], "tenant "+vm[0]+": the log says that it was revoked", "vm revoke "+vm[1])
		}
	}
	if e.store != nil {
		for _, host := range slices.SortedFunc(maps.Keys(hosts), func(a, b [2]string) int { return strings.Compare(a[1], b[1]) }) {
			if hosts[host] && !e.revokedHosts[host] {
				e.add("REVOCATION_UNDONE", "host "+host[1], "tenant "+host[0]+": the log says that it was revoked", "host revoke "+host[1])
			}
		}
	}
	if now := time.Now(); now.Add(time.Minute).Before(r.To) {
		e.add("CLOCK_BEHIND", "clock", fmt.Sprintf("it says %s, the newest record %s", now.UTC().Format(time.RFC3339), r.To.Format(time.RFC3339)))
	}
}

// keys: every version of every key opens.
func (e *examiner) keys(ctx context.Context, st *store.Store, ring *keyring.Ring) {
	keys, err := st.Keys(ctx)
	if err != nil {
		e.add("STORE_DAMAGED", "keys", err.Error())
	}
	for _, k := range keys {
		if _, err := ring.Open(k); err != nil {
			e.add("KEY_DAMAGED", k.Name, err.Error())
		}
	}
	for name, label := range wrappedFiles {
		wrapped, err := os.ReadFile(filepath.Join(e.dir, name))
		if errors.Is(err, os.ErrNotExist) && name == fileAuditKey {
			continue // the root key was never replaced
		}
		if err == nil {
			_, err = ring.Unwrap("", keyring.ID{}, label, wrapped)
		}
		if err != nil {
			e.add("KEY_DAMAGED", name, err.Error())
		}
	}
}

// authorities: each chains to the root, has its own key, and lasts for a while.
func (e *examiner) authorities(ctx context.Context, file serviceFile, st *store.Store, ring *keyring.Ring) {
	root, err := parseCertificate([]byte(file.RootCA))
	if err != nil {
		e.add("AUTHORITY_BROKEN", fileService, err.Error())
		return
	}
	if _, err := openOffice(ctx, root, st, ring, time.Now); err != nil {
		e.add("AUTHORITY_BROKEN", "authorities", err.Error())
	}
	expires := func(c *x509.Certificate, purpose string) {
		left, life := time.Until(c.NotAfter), c.NotAfter.Sub(c.NotBefore)
		if left < min(90*24*time.Hour, life/3) {
			e.add("AUTHORITY_EXPIRES", c.Subject.CommonName, "on "+c.NotAfter.Format(time.DateOnly), purpose)
		}
	}
	expires(root, "PURPOSE")
	stored, err := st.Authorities(ctx)
	if err != nil {
		e.add("STORE_DAMAGED", "authorities", err.Error())
		return
	}
	for _, p := range ca.Purposes() {
		if !slices.ContainsFunc(stored, func(a store.Authority) bool { return a.Purpose == p }) {
			e.add("AUTHORITY_BROKEN", string(p), "it is not in the store")
		}
	}
	for _, a := range stored {
		if c, err := x509.ParseCertificate(a.DER); err == nil {
			expires(c, string(a.Purpose))
		}
	}
}

// policies: every approved boot is signed by its tenant's policy key.
func (e *examiner) policies(ctx context.Context, st *store.Store, ring *keyring.Ring) {
	keys, err := st.Keys(ctx)
	if err != nil {
		return // said above
	}
	for _, k := range keys {
		if k.Name != verifier.PolicyKeyName {
			continue
		}
		bad, err := verifier.CheckReferences(ctx, st, ring, k)
		if err != nil {
			e.add("STORE_DAMAGED", "approved boots", err.Error())
		}
		for _, b := range bad {
			e.add("APPROVAL_CHANGED", b.Subject, fmt.Sprintf("version %d: %v", b.Version, b.Why), b.Subject)
		}
	}
}

// vms: every secret of every VM opens.
func (e *examiner) vms(ctx context.Context, st *store.Store, ring *keyring.Ring) {
	err := st.AllVMs(ctx, func(v enroll.VM) error {
		id := [2]string{v.Tenant, v.Name}
		e.known, e.revoked[id] = append(e.known, id), v.State == enroll.StateRevoked
		disks, err := st.Disks(ctx, v.Tenant, v.Name)
		if err != nil {
			return err
		}
		for _, bad := range enroll.CheckSecrets(ring, v, disks) {
			e.add("KEY_DAMAGED", v.Name, bad.Error())
		}
		return nil
	})
	if err != nil {
		e.add("STORE_DAMAGED", "VMs", strings.TrimSpace(err.Error()))
	}
	hosts, err := st.AllHosts(ctx)
	if err != nil {
		e.add("STORE_DAMAGED", "hosts", err.Error())
	}
	for _, h := range hosts {
		if err := enroll.CheckHost(ring, h); err != nil {
			e.add("KEY_DAMAGED", "host "+h.Name, err.Error())
		}
		e.revokedHosts[[2]string{h.Tenant, h.Name}] = !h.Revoked.IsZero()
	}
	unfinished, err := st.UnfinishedRevocations(ctx)
	if err != nil {
		e.add("STORE_DAMAGED", "VMs", err.Error())
	}
	for _, vm := range unfinished {
		e.add("REVOCATION_UNFINISHED", vm[1], "tenant "+vm[0], "vm revoke "+vm[1])
	}
	if unfinished, err = st.UnfinishedHostRevocations(ctx); err != nil {
		e.add("STORE_DAMAGED", "hosts", err.Error())
	}
	for _, host := range unfinished {
		e.add("REVOCATION_UNFINISHED", "host "+host[1], "tenant "+host[0], "host revoke "+host[1])
	}
}
