package eventlog_test

import (
	"fmt"
	"os"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

func ExampleParse() {
	data, err := os.ReadFile("testdata/ovmf-direct.bin")
	if err != nil {
		fmt.Println(err)
		return
	}
	log, err := eventlog.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range log.Events[9:14] {
		proved, _ := e.Binding()
		fmt.Printf("PCR %d %s: %s\n", e.PCR, proved, e.Text())
	}
	bank, err := log.Replay(eventlog.SHA256)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("PCR 9 = %x…\n", bank.PCR[9][:8])
	// Output:
	// PCR 7 authenticated: 00000000
	// PCR 4 unauthenticated: VenMedia(1428f772-b64a-441e-b8c3-9ebdd7f893c7)/kernel (14186432 bytes)
	// PCR 1 partly-authenticated: BootOrder = 0000
	// PCR 1 partly-authenticated: Boot0000 = 62 bytes, UiApp
	// PCR 4 authenticated: Calling EFI Application from Boot Option
	// PCR 9 = dc5c05e5e1b8930a…
}

func ExampleLog_Add() {
	log, err := eventlog.New(eventlog.SHA256)
	if err != nil {
		fmt.Println(err)
		return
	}
	text := []byte("Calling EFI Application from Boot Option")
	e := log.Add(4, eventlog.EVEFIAction, text, text)
	fmt.Printf("extend PCR %d with %x…\n", e.PCR, e.Digest(eventlog.SHA256)[:8])
	// Output: extend PCR 4 with 3d6772b4f84ed475…
}
