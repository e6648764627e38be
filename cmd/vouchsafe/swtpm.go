package main

// asProgram turns the command line of swtpm, swtpm_setup or swtpm_ioctl into
// ours when the program was called by one of these names, so that libvirt and
// scripts find what they look for: a TPM that swtpm left is taken over, and a
// new one has the algorithms that swtpm's have. Any other name changes nothing.
func asProgram(args []string) []string {
	if len(args) == 0 {
		return []string{"vouchsafe"}
	}
	words, ok := map[string][]string{
		"swtpm":       {"vouchsafe", "vtpm", "serve", "--take-over", "--algorithms=classical"},
		"swtpm_setup": {"vouchsafe", "vtpm", "setup", "--profile-name=null"},
		"swtpm_ioctl": {"vouchsafe", "vtpm", "control"},
	}[swtpmName(args)]
	if !ok {
		return args
	}
	// swtpm's own words for help and version stand before the kind of device.
	return append(words, args[1:]...)
}
