package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// algorithmSet reads --algorithms.
func algorithmSet(word string) (uint32, error) {
	switch word {
	case "all":
		return 0, nil
	case "classical":
		return vtpm.ClassicalSet, nil
	}
	return 0, usageError{fmt.Errorf("--algorithms %s: it is all or classical", word)}
}

// algorithmsOf is the reverse.
func algorithmsOf(set uint32) string {
	if set == vtpm.ClassicalSet {
		return "classical"
	}
	return "all"
}

// algorithmSet is what the options ask for; nil leaves a vTPM that is there as
// it is. A profile is chosen when a vTPM is made, as with swtpm_setup.
func (f setupFlags) algorithmSet() (*uint32, error) {
	word := f.algorithms
	if word == "" && f.reconfigure {
		return nil, nil
	}
	if word == "" {
		var err error
		if word, err = f.profileAlgorithms(); err != nil {
			return nil, err
		}
	}
	set, err := algorithmSet(word)
	return &set, err
}

// profileAlgorithms reads a profile of swtpm_setup 0.10. Those of libtpms that
// have a name differ in nothing that is left out here but the post-quantum algorithms.
func (f setupFlags) profileAlgorithms() (string, error) {
	name := f.profileName
	if f.profile != "" {
		var p struct{ Name, Algorithms, Commands, Attributes string }
		if err := json.Unmarshal([]byte(f.profile), &p); err != nil {
			return "", withHint(usageError{fmt.Errorf("--profile: %w", err)}, `--profile '{"Name": "default-v1"}'`)
		}
		if p.Algorithms != "" || p.Commands != "" || p.Attributes != "" {
			return "", withHint(usageError{errors.New("--profile: single algorithms, commands and attributes cannot be chosen")}, "use a profile that has a name: null, default-v1 or all")
		}
		name = p.Name
	}
	switch name {
	case "", "all":
		return "all", nil
	case "null", "default-v1", "custom":
		return "classical", nil
	}
	return "", withHint(usageError{fmt.Errorf("--profile-name %s: there is no such profile", name)}, "use null, default-v1 or all")
}
