package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// answerSwtpmOptions has cmd say of an option of swtpm that it does not take why
// not, and what to do instead. Everything else stays an unknown flag.
func answerSwtpmOptions(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if !errors.As(err, &unknown) {
			return usageError{err}
		}
		if answer := notTaken(unknown.GetSpecifiedName()); answer != nil {
			return usageError{fmt.Errorf("--%s: %w", unknown.GetSpecifiedName(), answer)}
		}
		return usageError{err}
	})
}

// notTaken knows the options of swtpm, swtpm_setup and swtpm_ioctl up to 0.11 that
// are refused here, a letter where swtpm has one; nil for all others.
func notTaken(option string) error {
	switch option {
	case "profile", "profile-name", "profile-file", "profile-file-fd": // vtpm setup has the first two
		return withHint(errors.New("a profile is a name, and given when a vTPM is made: null, default-v1 or all"),
			"swtpm_setup --profile-name NAME; without it: --algorithms classical or --algorithms all")
	case "profile-remove-disabled", "print-profiles":
		return withHint(errors.New("the profiles are null, default-v1 and all, and nothing can be taken out of one"), "take it away")
	case "print-info":
		return withHint(errors.New("a TPM that runs says this of itself"), "vouchsafe vtpm control --unix PATH --info 3")
	case "pcap":
		return withHint(errors.New("commands are not recorded"), "take it away")
	case "chroot", "R":
		return withHint(errors.New("this program does not change its root directory"), "take it away; --runas gives up root, and RootDirectory= of systemd confines further")
	case "chardev", "c", "vtpm-proxy":
		return withHint(errors.New("only sockets are served"), "for QEMU: --ctrl type=unixio,path=PATH")
	case "allow-signing":
		return withHint(errors.New("an endorsement key deciphers and does not sign"), "take it away; a guest makes its signing key itself: tpm2_createak")
	case "tpm-device":
		return withHint(errors.New("only vTPMs behind sockets are reached"), "--unix PATH or --tcp HOST:PORT, as after --ctrl")
	}
	return nil
}
