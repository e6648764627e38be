// Package modsig reads, checks and makes the signatures appended to Linux
// kernel modules, and says beforehand what a kernel will do with a module:
// load it, load it and taint itself, or refuse it, with which errno and which
// line in its log.
//
// It is for operators who want to learn before a reboot, not after, and for
// signing one's own modules under one enrolled CA with leaf keys that change.
// It has no I/O: bytes, certificates and the time come in, a result goes out.
// It is not for UEFI binaries (Authenticode) nor for IMA's appended
// signatures, which share the trailer and nothing else.
//
// A signed module is the ELF file, a CMS SignedData over it (RFC 5652,
// detached, without signed attributes), twelve bytes that give the length of
// that, and a magic line; docs/formats/module-signature.md has every byte.
//
// Begin with [Parse] and [Module.Check]: a file and a [Kernel] in, a [Report] out;
// [Report.Predict] turns that into the kernel's verdict for a [Mode].
// [ReadImage] takes the build key out of a kernel image, [Sign] makes a
// signature, [Explain] turns the kernel's own log lines into cause and remedy.
package modsig
