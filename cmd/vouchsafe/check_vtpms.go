package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/host"
)

// onlyHost: vTPMs are carried from this directory, and their service is elsewhere.
func onlyHost(dir string) bool {
	return exists(filepath.Join(dir, dirVTPMs)) && !exists(filepath.Join(dir, fileService)) && !exists(filepath.Join(dir, fileStore))
}

// sayAllHold says what was examined.
func (a *app) sayAllHold(dir string) {
	if onlyHost(dir) {
		fmt.Fprintln(a.err, a.say("the vTPMs of this host hold, as far as can be told without their keys, which the service has", "本机的 vTPM 正常（其密钥在服务处，未能进一步检查）"))
		return
	}
	fmt.Fprintln(a.err, a.say("root key, store, keys, authorities, approvals, VMs, vTPMs here and audit log: all hold", "根密钥、数据库、密钥、证书颁发机构、批准、虚拟机、此处的 vTPM 和审计日志：全部正常"))
}

// vtpms: the state of each that is carried from this directory is whole, opens
// under the key on record, and is the newest; and none is missing.
func (e *examiner) vtpms(ctx context.Context) {
	tenant, hosts := e.asHosts()
	dir := filepath.Join(e.dir, dirVTPMs)
	if e.store == nil && !onlyHost(e.dir) {
		return // said above: without the record nothing can be said about them
	}
	lie := map[string]bool{}
	if exists(dir) {
		var records host.Records
		if e.store != nil {
			records = func(vm string) (*host.Record, func(), error) { return e.record(ctx, tenant, vm) }
		}
		fs, err := host.Examine(dir, hosts, records)
		if err != nil {
			e.add("STATE_INCOMPLETE", dir, err.Error())
			return
		}
		e.fs = append(e.fs, fs...)
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			lie[entry.Name()] = true
		}
	}
	var missing []string
	for _, vm := range e.known {
		if v, err := e.store.VM(ctx, vm[0], vm[1]); err == nil && v.Tenant == tenant && v.State != enroll.StateRevoked && slices.Contains(hosts, v.Host) && !lie[v.Name] {
			missing = append(missing, v.Name)
		}
	}
	switch {
	case len(missing) == 0:
	case !exists(dir):
		e.add("VTPMS_ELSEWHERE", dir, "those of "+strings.Join(missing, ", "), e.dir)
	default:
		for _, vm := range missing {
			path := filepath.Join(dir, vm)
			e.fs = append(e.fs, host.Findings.New("VTPM_MISSING", path, "there is no such directory", path, vm))
		}
	}
}

// asHosts is which hosts carry vTPMs from this directory: what "up" called this
// machine, and what the credential of "host run" says.
func (e *examiner) asHosts() (tenant string, hosts []string) {
	tenant, hosts = defaultTenant, e.carries
	cred := filepath.Join(e.dir, dirHost)
	if cert, err := tls.LoadX509KeyPair(filepath.Join(cred, credentialCert), filepath.Join(cred, credentialKey)); err == nil {
		if name, err := ca.NameOf(cert.Leaf); err == nil {
			tenant, hosts = name.Tenant, append(hosts, name.Name)
		}
	}
	return tenant, hosts
}

// record is what the store says about a VM at this moment.
func (e *examiner) record(ctx context.Context, tenant, vm string) (*host.Record, func(), error) {
	v, err := e.store.VM(ctx, tenant, vm)
	if errors.Is(err, enroll.ErrNotFound) {
		return nil, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	r := &host.Record{Host: v.Host, Revoked: v.State == enroll.StateRevoked, EKPublic: v.EKPublic, Generation: v.Generation, Pending: v.Pending, Writes: v.Writes}
	if r.Revoked {
		return r, func() {}, nil // its keys are for nobody any more
	}
	key, erase, err := enroll.StateKeys(e.ring, v)
	if err != nil {
		return r, func() {}, nil // vms said so
	}
	r.Key = key
	return r, erase, nil
}
