package api

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// twoHosts are h1, which has the VM web1, and h2.
func (s *service) twoHosts() (h1, h2 *tls.Certificate) {
	op := s.operator()
	for _, h := range []string{"h1", "h2"} {
		s.want("host", op, "POST", "/v1/hosts", fmt.Sprintf(`{"name":%q,"accept_unattested":true}`, h), 200, "")
	}
	s.want("create", op, "POST", "/v1/vms", fmt.Sprintf(`{"name":"web1","host":"h1","ek_public":%s}`, ekPEM(s.t)), 200, "")
	host := func(name string) *tls.Certificate {
		return s.issue(s.backend.Office, ca.AgentProfile, ca.KindAgent, name)
	}
	return host("h1"), host("h2")
}

// TestRogueHost: a host's credential says nothing about VMs on other hosts. The
// id of their leases is no secret, since each residence statement has it.
func TestRogueHost(t *testing.T) {
	s := newService(t)
	h1, rogue := s.twoHosts()
	var l hosting.Lease
	if err := json.Unmarshal([]byte(s.want("lease", h1, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":0}`, 200, "")), &l); err != nil {
		t.Fatal(err)
	}
	path := "/v1/vms/web1/lease/" + l.ID
	s.want("confirming it", rogue, "POST", path+"/confirm", `{"generation":1}`, 403, "OTHER_HOST")
	s.want("counting resets that were none", rogue, "POST", path+"/renew", `{"counters":{"reset":0,"restart":0,"ever":9000000000000000000}}`, 403, "OTHER_HOST")
	s.want("ending it", rogue, "DELETE", path, "", 403, "OTHER_HOST")
	told := fmt.Sprintf(`{"states":[{"vm":"web1","lease":%q,"writes":9000000000000000000}]}`, l.ID)
	s.want("counting writes that were none", rogue, "POST", "/v1/hosts/h1/writes", told, 403, "OTHER_HOST")
	s.want("counting them as its own", rogue, "POST", "/v1/hosts/h2/writes", told, 204, "")
	s.want("its own host", h1, "POST", path+"/confirm", `{"generation":1}`, 204, "")
	if v, err := s.backend.Store.VM(t.Context(), "default", "web1"); err != nil || v.Writes != 0 {
		t.Errorf("another host's word counts: %d, %v", v.Writes, err)
	}
	s.want("its own host", h1, "POST", "/v1/hosts/h1/writes", strings.Replace(told, "9000000000000000000", "7", 1), 204, "")
	s.want("an old copy", h1, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":1,"writes":6}`, 403, "vouchsafe vm accept-state --list")
	s.want("too many at once", h1, "POST", "/v1/hosts/h1/writes", `{"states":[`+strings.Repeat(`{"vm":"web1","lease":"","writes":1},`, hosting.MaxWritten)+`{"vm":"web1","lease":"","writes":1}]}`, 422, "")
	s.want("a count below one", h1, "POST", "/v1/hosts/h1/writes", `{"states":[{"vm":"web1","lease":"","writes":0}]}`, 422, "")
	s.want("its own host", h1, "POST", path+"/renew", `{"counters":{"reset":1,"restart":0,"ever":1}}`, 200, l.ID)
	s.want("its own host", h1, "DELETE", path, "", 204, "")
	s.want("a VM that is not", rogue, "DELETE", "/v1/vms/web9/lease/"+l.ID, "", 404, "NOT_FOUND")
}

// TestHostileHost: a host that sends as much as a request may have, many times at
// once, does not fill the memory; and what hosts do all day is not held up by it.
func TestHostileHost(t *testing.T) {
	s := newService(t)
	h1, rogue := s.twoHosts()
	const many = 48
	head, tail := `{"nonce":"AAAA","carried":[],"items":[{"type":"tcg-event-log","data":"`, `"}]}`
	body := head + strings.Repeat("A", 4<<20-4096) + tail
	runtime.GC()
	var start, now runtime.MemStats
	runtime.ReadMemStats(&start)
	answers := make(chan string, many)
	for range many {
		go func() {
			status, text := s.as(rogue, "POST", "/v1/hosts/h2/evidence", body)
			answers <- fmt.Sprintf("%d %.60s", status, text)
		}()
	}
	meanwhile, most, refused := false, uint64(0), 0
	for n := 0; n < many; {
		select {
		case text := <-answers:
			n++
			switch {
			case strings.HasPrefix(text, "429"), strings.HasPrefix(text, "0"): // told so, or cut off while it sent
				refused++
			case !strings.HasPrefix(text, "4") && !strings.HasPrefix(text, "503"):
				t.Errorf("hostile evidence: %s", text)
			}
		case <-time.After(time.Millisecond):
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
			if !meanwhile {
				meanwhile = true
				s.want("another host meanwhile", h1, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":0}`, 200, "")
			}
		}
	}
	grown := int64(most) - int64(start.HeapInuse)
	t.Logf("%d at once, %d refused for it: the heap grew by %d MiB", many, refused, grown>>20)
	if grown > 150<<20 || refused == 0 {
		t.Error("a host fills the memory")
	}
}

// TestBytesThatAreNoText: a name in a path may be any bytes; the audit log must
// open again all the same.
func TestBytesThatAreNoText(t *testing.T) {
	s := newService(t)
	op := s.operator()
	rogue := s.issue(s.backend.Office, ca.AgentProfile, ca.KindAgent, "h2")
	s.want("host", op, "POST", "/v1/hosts", `{"name":"h2","accept_unattested":true}`, 200, "")
	for _, name := range []string{"%FF", "a%ED%A0%80", "%C3"} {
		s.as(rogue, "POST", "/v1/vms/"+name+"/lease", `{"host":"h2","generation":0}`)
		s.as(s.issue(s.backend.Office, ca.VMProfile, ca.KindVM, "web1"), "POST", "/v1/vms/web1/disks/"+name+"/volume-key", `{"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`)
	}
	if err := s.backend.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := audit.Open(s.auditDir, s.auditSigner, audit.Options{})
	if err != nil {
		t.Fatalf("the service does not start any more: %v", err)
	}
	again.Close()
	r, err := audit.Verify(s.auditDir, s.backend.AuditKey, nil, func(audit.Record) {})
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%v, %v", r.Findings, err)
	}
}
