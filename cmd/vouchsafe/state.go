package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// Names inside a state directory.
const (
	fileService   = "service.json"       // written last: with it, the service exists
	fileRootKey   = "root.key"           // software tier, 0600
	fileSealed    = "root.sealed.json"   // the root key, wrapped by every tier
	fileRootCA    = "root-ca.key.sealed" // opens with the recovery key only
	fileBackupMAC = "backup.mac.sealed"
	fileAuditKey  = "audit.key.sealed" // since the first rotation of the root key
	fileStore     = "vouchsafe.db"
	dirAudit      = "audit"
	dirOperator   = "operator"
	fileRecovery  = "recovery.key" // to be taken away
	fileURL       = "operator/url" // where the server listens, while it does

	// While the root key is replaced; see rootkey_rotate.go.
	fileRootLock    = "root.lock"
	fileRootKeyNext = "root.key.next"
	fileSealedNext  = "root.sealed.next.json"
)

// serviceFile is service.json: who a service is. Nothing in it is secret.
type serviceFile struct {
	Format       string    `json:"format"`
	ID           string    `json:"id"`
	TrustDomain  string    `json:"trust_domain"`
	Created      time.Time `json:"created"`
	RootCA       string    `json:"root_ca"`       // PEM
	AuditKey     string    `json:"audit_key"`     // c2sp.org/signed-note
	BackupPublic []byte    `json:"backup_public"` // HPKE
}

const serviceFormat = "vouchsafe-service-v1"

// stateFlag adds --state to a command.
func stateFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state", "", "state directory (default $VOUCHSAFE_STATE, else /var/lib/vouchsafe for root, ~/.local/state/vouchsafe for others)")
}

// stateDir is the state directory that was asked for.
func stateDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env := os.Getenv("VOUCHSAFE_STATE"); env != "" {
		return env, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/vouchsafe", nil
	}
	if xdg := os.Getenv("XDG_STATE_HOME"); xdg != "" {
		return filepath.Join(xdg, "vouchsafe"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", withHint(err, "vouchsafe --state DIR …")
	}
	return filepath.Join(home, ".local", "state", "vouchsafe"), nil
}

// readService reads service.json.
func readService(dir string) (serviceFile, error) {
	var f serviceFile
	data, err := os.ReadFile(filepath.Join(dir, fileService))
	if errors.Is(err, os.ErrNotExist) {
		if exists(filepath.Join(dir, fileRestoring)) {
			return f, withHint(fmt.Errorf("%s has no %s: making the service was not finished, or this is another directory", dir, fileService), "a restore was cut off there: rm -r %s, then again", dir)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			return f, withHint(fmt.Errorf("%s has no %s: making the service was not finished, or this is another directory", dir, fileService),
				"look at it; if it is an unfinished one, move it away and run: vouchsafe init --state %s", dir)
		}
		return f, withHint(fmt.Errorf("there is no service in %s", dir), "vouchsafe init --state %s", dir)
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("reading %s: %w", fileService, err)
	}
	if f.Format != serviceFormat {
		return f, fmt.Errorf("reading %s: its format %q is not %s", fileService, f.Format, serviceFormat)
	}
	return f, nil
}
