package modsig_test

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func ExampleCheck() {
	// A kernel that trusts nothing, and a file that is no module.
	kernel := modsig.NewKernel("6.1.0-56-amd64", modsig.Features{}, nil, nil)
	report := modsig.Check([]byte("hello"), kernel, modsig.Options{Name: "hello.ko"})
	outcome := report.Predict(modsig.Lockdown)
	fmt.Println(report.Verdict, outcome.Errno, outcome.Message)
	// Output: malformed EKEYREJECTED Loading of unsigned module is rejected
}

func ExampleExplain() {
	f, _ := modsig.Explain("[   12.3] Loading of module with unavailable key is rejected")
	fmt.Println(f.Code, f.Severity)
	fmt.Println(f.In(finding.Chinese).Meaning)
	// Output:
	// MODULE_UNKNOWN_KEY error
	// 签名所用的密钥不在此内核的密钥环中：在安全启动或 module.sig_enforce=1 下内核会拒绝加载，否则内核会被标记为受污染
}
