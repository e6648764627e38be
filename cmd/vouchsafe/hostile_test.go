package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// TestHostileEvidence sends what a guest with a credential of its own may send:
// megabytes of event log, a log that never ends, deep chains of certified keys,
// replays, another VM's AK. Each is refused with its reason, and while all of
// them come at once the service's memory stays where it was.
func TestHostileEvidence(t *testing.T) {
	d := admittedDemo(t)
	must(t, d.boot(demoCommandLine))
	a, err := d.agent(d.guest)
	must(t, err)
	if _, err := d.attest(""); err != nil {
		t.Fatal(err)
	}
	honest := d.record
	path := "/v1/vms/" + demoVM + "/admission"
	with := func(change func(*admission.Request)) admission.Request {
		r := honest
		r.Items = append([]attest.Item(nil), honest.Items...)
		change(&r)
		return r
	}
	log := func(data []byte) func(*admission.Request) {
		return func(r *admission.Request) {
			for i := range r.Items {
				if r.Items[i].Type == attest.TCGEventLog {
					r.Items[i].Data = data
				}
			}
		}
	}
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	// An event log whose one event says that it has 4 GiB.
	endless := append(bytes.Clone(d.log), bytes.Repeat([]byte{0xff}, 1<<20)...)
	deep := func(r *admission.Request) {
		for range 12 {
			r.Items = append(r.Items, attest.Item{Type: attest.TPMCertify, Data: bytes.Repeat([]byte{4, 0}, 600)})
		}
	}
	for name, tt := range map[string]struct {
		request admission.Request
		says    string
	}{
		"a replay":                       {honest, "NONCE_USED"},
		"three megabytes of event log":   {with(log(noise)), "too large"},
		"two megabytes of event log":     {with(log(noise[:2<<20])), "EVIDENCE_TOO_LARGE"},
		"a log that never ends":          {with(log(endless)), "NONCE_USED"},
		"more items than there are":      {with(func(r *admission.Request) { deep(r); deep(r) }), "validation failed"},
		"many certified keys":            {with(deep), "validation failed"},
		"an item of no bytes, a million": {with(func(r *admission.Request) { r.Items = make([]attest.Item, 1_000_000) }), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			err := a.Call(t.Context(), "POST", path, tt.request, nil)
			if err == nil {
				t.Fatal("it was not refused")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it was refused by %q, want %q", err, tt.says)
			}
		})
	}

	// Many guests at once, each with as much as a request may have; what they send
	// is made while it is sent, so that what grows is the service.
	const guests = 16
	clients := make([]*apiClient, guests)
	for i := range clients {
		credential, err := d.credential(ca.KindGuest, fmt.Sprint("guest", i))
		must(t, err)
		clients[i] = newClient(d.operator.url, credential, d.root)
	}
	send := func(c *apiClient, name string) error {
		head, tail := `{"nonce":"AAAA","items":[{"type":"tcg-event-log","data":"`, `"}]}`
		const length = 4<<20 - 4096
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/v1/vms/"+name+"/admission",
			io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, length), strings.NewReader(tail)))
		if err != nil {
			return err
		}
		req.ContentLength = int64(len(head) + length + len(tail))
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return fmt.Errorf("%s %.300s %w", resp.Status, text, err)
	}
	runtime.GC()
	var start, now runtime.MemStats
	runtime.ReadMemStats(&start)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := uint64(0)
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(time.Millisecond):
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse)
			}
		}
	}()
	answers := make(chan error, guests)
	for i, c := range clients {
		go func() { answers <- send(c, fmt.Sprint("guest", i)) }()
	}
	counted := map[string]int{}
	for range guests {
		text := (<-answers).Error()
		counted[text[:3]]++
		if !strings.HasPrefix(text, "4") && !strings.HasPrefix(text, "503") {
			t.Errorf("hostile evidence: %s", text)
		}
	}
	close(stop)
	grown := int64(<-peak) - int64(start.HeapInuse)
	t.Logf("%d at once, %d MiB sent: the heap grew by %d MiB; answers %v", guests, guests*4, grown>>20, counted)
	if grown > 150<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	for _, c := range clients {
		c.http.CloseIdleConnections()
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&now)
	if kept := int64(now.HeapInuse) - int64(start.HeapInuse); kept > 16<<20 {
		t.Errorf("%d MiB are kept afterwards", kept>>20)
	}

	// One guest that asks for many things at once is told to wait.
	many := 0
	one := make(chan error, 16)
	for range cap(one) {
		go func() { one <- send(clients[0], "guest0") }()
	}
	for range cap(one) {
		if strings.HasPrefix((<-one).Error(), "429") {
			many++
		}
	}
	if many == 0 {
		t.Error("one guest has as many requests at once as it likes")
	}
	if _, err := d.attest(""); err != nil {
		t.Errorf("honest evidence afterwards: %v", err)
	}
}

// letters are base64 without end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}
