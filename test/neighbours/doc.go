// Package neighbours tests vouchsafe's vTPM with the programs that it lives
// with: tpm2-tools, go-tpm, swtpm_ioctl, QEMU with SeaBIOS and OVMF, Linux,
// libvirt, clevis, systemd-cryptenroll, dpkg. It holds no product code.
//
//	        control (unix)            data (SCM_RIGHTS)
//	libvirt ──► swtpm = vouchsafe ◄── QEMU ◄── SeaBIOS, OVMF, Linux
//	tpm2-tools, clevis, systemd ──► tpm2-tss swtpm/mssim TCTI ──► TCP
//
// A test whose neighbour is not installed says so, with the apt line that
// mends it, and skips; with CI=true it fails. Begin with vouchsafe in
// vouchsafe_test.go, which builds and runs the program.
package neighbours
