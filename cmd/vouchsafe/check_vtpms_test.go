package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/host"
)

// upWorld runs "up" until it is stopped.
func upWorld(t *testing.T, dir string) *hostWorld {
	t.Helper()
	w := &hostWorld{t: t, dir: dir, svc: dir, logs: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"vouchsafe", "up", "--state", dir, "--listen", "127.0.0.1:0", "--accept-unattested-host", "--own-tpm", "none"}, strings.NewReader(""), io.Discard, w.logs)
	}()
	w.stop = func() {
		cancel()
		<-done
		w.stop = func() {}
	}
	t.Cleanup(func() { w.stop() })
	waitURL(t, dir, w.logs)
	return w
}

// live starts a VM and switches it off.
func (w *hostWorld) live(vm string) {
	w.t.Helper()
	before := strings.Count(w.logs.String(), "vTPM stopped")
	m, err := w.start(vm)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.logs)
	}
	m.off()
	w.until("the lease is given back", func() bool { return strings.Count(w.logs.String(), "vTPM stopped") > before })
}

// TestCheckVTPMs carries two VMs, and then breaks what lies of them in every way
// that check knows, one at a time on a copy.
func TestCheckVTPMs(t *testing.T) {
	base := filepath.Join(t.TempDir(), "state")
	w := upWorld(t, base)
	for _, vm := range []string{"web1", "web2", "web3"} {
		if out, err := w.cli("vm", "create", vm, "--state", base); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.until(vm+" is carried", func() bool { return exists(filepath.Join(base, dirSockets, vm+".sock")) })
	}
	w.live("web1")
	old := t.TempDir()
	must(t, os.CopyFS(old, os.DirFS(filepath.Join(base, dirVTPMs, "web1"))))
	m, err := w.start("web1")
	must(t, err)
	noErrors(t, base) // also while one runs
	running, err := os.ReadFile(filepath.Join(base, dirVTPMs, "web1", "vtpm.state"))
	must(t, err)
	m.off()
	w.live("web2")
	if out, err := w.cli("vm", "revoke", "web3", "--reason", "test"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.stop()
	must(t, os.Remove(filepath.Join(base, fileRecovery)))
	fs, err := examine(t.Context(), base, nil)
	must(t, err)
	if len(fs) != 1 || fs[0].Code != "VTPM_LEFTOVER" || !strings.Contains(fs[0].Evidence, "revoked") {
		t.Fatalf("nothing is broken, and check says %v", fs)
	}

	change := func(path string, by func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, by(b), 0o600))
	}
	written := func(dir string, generation func(int64) int64) {
		t.Helper()
		change(filepath.Join(dir, "vtpm.json"), func(b []byte) []byte {
			var r map[string]any
			must(t, json.Unmarshal(b, &r))
			r["generation"] = generation(int64(r["generation"].(float64)))
			b, err := json.Marshal(r)
			must(t, err)
			return b
		})
	}
	alone := func(vtpms string) { // what a host has whose service is on another machine
		entries, err := os.ReadDir(filepath.Dir(vtpms))
		must(t, err)
		for _, e := range entries {
			if e.Name() != dirVTPMs {
				must(t, os.RemoveAll(filepath.Join(filepath.Dir(vtpms), e.Name())))
			}
		}
	}
	var tested []string
	for _, tt := range []struct {
		what, code, place, says string
		harm                    func(vtpms, web1 string)
	}{
		{"one bit of the state", "STATE_DAMAGED", "vtpm.state", "", func(_, web1 string) {
			change(filepath.Join(web1, "vtpm.state"), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}},
		{"the state is cut", "STATE_DAMAGED", "vtpm.state", "bytes", func(_, web1 string) {
			must(t, os.Truncate(filepath.Join(web1, "vtpm.state"), 1000))
		}},
		{"the state is empty", "STATE_DAMAGED", "vtpm.state", "0 bytes", func(_, web1 string) {
			must(t, os.Truncate(filepath.Join(web1, "vtpm.state"), 0))
		}},
		{"the state is of a newer program", "STATE_NEWER", "vtpm.state", "version", func(_, web1 string) {
			change(filepath.Join(web1, "vtpm.state"), func(b []byte) []byte { b[9] = 9; return b })
		}},
		{"the state is another VM's", "VTPM_STATE_CLOSED", "web1", "none of", func(vtpms, web1 string) {
			b, err := os.ReadFile(filepath.Join(vtpms, "web2", "vtpm.state"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.state"), b, 0o600))
		}},
		{"the state is an old one", "STATE_ROLLED_BACK", "web1", "of generation 2, the service's record of 3", func(_, web1 string) {
			b, err := os.ReadFile(filepath.Join(old, "vtpm.state"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.state"), b, 0o600))
		}},
		{"the whole directory is an old one", "STATE_ROLLED_BACK", "web1", "of generation 2", func(_, web1 string) {
			must(t, os.RemoveAll(web1))
			must(t, os.CopyFS(web1, os.DirFS(old)))
			private(t, web1)
		}},
		{"the state is one of the same generation, from before its end", "STATE_ROLLED_BACK", "web1", "times, the one on the service's record", func(_, web1 string) {
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.state"), running, 0o600))
		}},
		{"a volatile state is left over", "STATE_DAMAGED", "vtpm.volatile", "kind", func(_, web1 string) {
			b, err := os.ReadFile(filepath.Join(web1, "vtpm.state"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.volatile"), b, 0o600))
		}},
		{"the state is gone", "VTPM_MISSING", "web1", "no vtpm.state", func(_, web1 string) { must(t, os.Remove(filepath.Join(web1, "vtpm.state"))) }},
		{"the state is a link", "VTPM_RECORD_DAMAGED", "web1", "symbolic", func(_, web1 string) {
			must(t, os.Rename(filepath.Join(web1, "vtpm.state"), filepath.Join(web1, "other")))
			must(t, os.Symlink("other", filepath.Join(web1, "vtpm.state")))
		}},
		{"the directory is gone", "VTPM_MISSING", "web1", "no such directory", func(_, web1 string) { must(t, os.RemoveAll(web1)) }},
		{"the record is gone", "VTPM_MISSING", "web1", "no vtpm.json", func(_, web1 string) { must(t, os.Remove(filepath.Join(web1, "vtpm.json"))) }},
		{"all of them are gone", "VTPMS_ELSEWHERE", dirVTPMs, "web1, web2", func(vtpms, _ string) { must(t, os.RemoveAll(vtpms)) }},
		{"the record is no JSON", "VTPM_RECORD_DAMAGED", "vtpm.json", "JSON", func(_, web1 string) {
			change(filepath.Join(web1, "vtpm.json"), func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"the record is another's", "VTPM_RECORD_DAMAGED", "vtpm.json", "born with", func(vtpms, web1 string) {
			b, err := os.ReadFile(filepath.Join(vtpms, "web2", "vtpm.json"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.json"), b, 0o600))
		}},
		{"the record says less", "VTPM_RECORD_DAMAGED", "vtpm.json", "it says generation 2, and the state is of 3", func(_, web1 string) {
			written(web1, func(g int64) int64 { return g - 1 })
		}},
		{"the record says more", "VTPM_RECORD_DAMAGED", "vtpm.json", "it says generation 8, and the state is of 3", func(_, web1 string) {
			written(web1, func(g int64) int64 { return g + 5 })
		}},
		{"the service was set back", "STATE_AHEAD", "web1", "of generation 3, the service's record only of 2", func(vtpms, _ string) {
			s, err := openService(t.Context(), filepath.Dir(vtpms), serviceOptions{ownTPM: "none"})
			must(t, err)
			defer s.close()
			must(t, s.store.UpdateVM(t.Context(), defaultTenant, "web1", func(st *enroll.Standing) error {
				st.VM.Generation = 2
				return nil
			}))
		}},
		{"a vTPM that nobody knows", "VTPM_UNKNOWN", "ghost", "no record of ghost", func(vtpms, web1 string) {
			must(t, os.CopyFS(filepath.Join(vtpms, "ghost"), os.DirFS(web1)))
			private(t, vtpms)
		}},
		{"something else lies there", "VTPM_UNKNOWN", "notes", "no directory", func(vtpms, _ string) {
			must(t, os.WriteFile(filepath.Join(vtpms, "notes"), nil, 0o600))
		}},
		{"a write was cut off", "VTPM_LEFTOVER", "vtpm.state.tmp", "did not finish", func(_, web1 string) {
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.state.tmp"), []byte("half"), 0o600))
		}},
		{"the record was being written", "VTPM_LEFTOVER", "vtpm.json.new", "did not finish", func(_, web1 string) {
			must(t, os.WriteFile(filepath.Join(web1, "vtpm.json.new"), []byte("half"), 0o600))
		}},
		{"the key of birth is still there", "VTPM_LEFTOVER", "birth.key", "sealed the state since", func(_, web1 string) {
			must(t, os.WriteFile(filepath.Join(web1, "birth.key"), bytes.Repeat([]byte{1}, 32), 0o600))
		}},
		{"a birth was cut off", "VTPM_LEFTOVER", "web9", "cut off", func(vtpms, _ string) {
			must(t, os.Mkdir(filepath.Join(vtpms, "web9"), 0o700))
			must(t, os.WriteFile(filepath.Join(vtpms, "web9", "birth.key"), bytes.Repeat([]byte{1}, 32), 0o600))
		}},
		{"without the service, a bit of the header", "STATE_DAMAGED", "vtpm.state", "kind", func(vtpms, web1 string) {
			alone(vtpms)
			change(filepath.Join(web1, "vtpm.state"), func(b []byte) []byte { b[10] ^= 8; return b })
		}},
		{"without the service, a state in clear", "STATE_NOT_SEALED", "vtpm.state", "in clear", func(vtpms, web1 string) {
			alone(vtpms)
			change(filepath.Join(web1, "vtpm.state"), func(b []byte) []byte {
				b[11] = 0
				at := len(b) - sha256.Size
				sum := sha256.Sum256(b[:at])
				return append(b[:at], sum[:]...)
			})
		}},
		{"without the service, a state that is gone", "VTPM_MISSING", "web1", "no vtpm.state", func(vtpms, web1 string) {
			alone(vtpms)
			must(t, os.Remove(filepath.Join(web1, "vtpm.state")))
		}},
		{"a state is another user's", "STATE_OWNER", "vtpm.state", "user 65534", func(_, web1 string) {
			must(t, os.Chown(filepath.Join(web1, "vtpm.state"), 65534, -1))
		}},
		{"others can read a state", "STATE_OPEN", "vtpm.state", "0640", func(_, web1 string) { must(t, os.Chmod(filepath.Join(web1, "vtpm.state"), 0o640)) }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if tt.code == "STATE_OWNER" && os.Geteuid() != 0 {
				t.Skip("only root gives files away")
			}
			dir := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(dir, os.DirFS(base)))
			private(t, dir)
			tt.harm(filepath.Join(dir, dirVTPMs), filepath.Join(dir, dirVTPMs, "web1"))
			fs, err := examine(t.Context(), dir, nil)
			must(t, err)
			named := 0
			var all []string
			for _, f := range fs {
				if strings.Contains(f.Evidence, "the VM was revoked") {
					continue // web3
				}
				all = append(all, f.Code+" "+f.Subject+": "+f.Evidence)
				if f.Code == tt.code && strings.Contains(f.Subject, tt.place) && strings.Contains(f.Evidence, tt.says) {
					named++
				}
				if f.Meaning == "" || f.Remedy == "" || strings.Contains(f.Remedy, "{") {
					t.Errorf("%s explains nothing: %q, %q", f.Code, f.Meaning, f.Remedy)
				}
			}
			if named != 1 || len(all) != 1 {
				t.Errorf("want %s at %s saying %q and nothing else, got\n%s", tt.code, tt.place, tt.says, strings.Join(all, "\n"))
			}
			tested = append(tested, tt.code)
		})
	}
	for _, e := range host.Findings {
		if !slices.Contains(tested, e.Code) {
			t.Errorf("nothing breaks what %s names", e.Code)
		}
	}
}
