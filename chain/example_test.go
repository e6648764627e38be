package chain_test

import (
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/chain"
)

// A web page saved in place of a certificate.
func ExampleCheck() {
	r := chain.Check("fullchain.pem", []byte("<!DOCTYPE html>\n<title>403 Forbidden</title>\n"), chain.Options{
		Time: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
	})
	for _, f := range r.Findings {
		fmt.Println(f.Severity, f.Code, "line", f.Place.Line, f.Evidence)
	}
	fmt.Println("repair:", r.Repair.Class)
	// Output:
	// error HTML line 1 "<!DOCTYPE html>"
	// repair: input
}
