package modsig

import (
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Outcome is what a kernel does with a module.
type Outcome struct {
	Mode  Mode `json:"mode"`
	Loads bool `json:"loads"`
	// Taints is the taint for a module that is not verified (E, 8192). What
	// else may taint, such as a module from outside the kernel's tree, has
	// nothing to do with signatures.
	Taints bool   `json:"taints"`
	Errno  string `json:"errno"` // of finit_module(2); empty when it loads
	// Message is what the kernel logs, line by line, without the time.
	Message string `json:"message"`
}

// Predict says what the kernel of this report does in mode m.
//
// The order is the kernel's (kernel/module/signing.c, main.c): a signature
// that is there and wrong ends the load in every mode; one that is missing,
// or cannot be judged, is a matter of the mode; only then is the ELF looked
// at, and the kernel it was built for.
func (r *Report) Predict(m Mode) Outcome {
	o := Outcome{Mode: m}
	lines := append([]string(nil), r.printed...)
	fail := func(errno string, more ...string) Outcome {
		o.Errno = errno
		o.Message = strings.Join(append(lines, more...), "\n")
		return o
	}
	if r.cause.fatal() {
		return fail(string(r.cause))
	}
	if r.cause != verified {
		switch {
		case m == Enforce || m == Lockdown || r.kernel.Features.Force:
			return fail("EKEYREJECTED", "Loading of "+reasons[r.cause]+" is rejected")
		case m == Integrity:
			return fail("EPERM", "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7")
		}
	}
	name := r.ELF.Name
	switch {
	case r.notELF != "":
		return fail("ENOEXEC", r.notELF)
	case r.size:
		return fail("ENOEXEC", "module "+name+": .gnu.linkonce.this_module section size must match the kernel's built struct module size at run time")
	case r.layout && r.kernel.Features.Versions:
		return fail("ENOEXEC", name+": disagrees about version of symbol module_layout")
	case r.layout:
		return fail("ENOEXEC", name+": version magic '"+r.ELF.Vermagic+"' should be that of "+r.kernel.Release)
	}
	if r.cause != verified {
		lines = append(lines, name+": module verification failed: signature and/or required key missing - tainting kernel")
	}
	if len(r.symbols) > 0 {
		for _, s := range r.symbols {
			lines = append(lines, name+": disagrees about version of symbol "+s, name+": Unknown symbol "+s+" (err -22)")
		}
		return fail("EINVAL")
	}
	o.Loads, o.Taints = true, r.cause != verified
	o.Message = strings.Join(lines, "\n")
	return o
}

// reasons are the kernel's words for what it cannot verify.
var reasons = map[cause]string{
	noData:    "unsigned module",
	noPackage: "module with unsupported crypto",
	noKey:     "module with unavailable key",
}

// Clean tells whether a module loads without a taint and without a finding
// that is an error.
func (r *Report) Clean(m Mode) bool {
	o := r.Predict(m)
	return o.Loads && !o.Taints && finding.Worst(r.Findings) != finding.Error
}
