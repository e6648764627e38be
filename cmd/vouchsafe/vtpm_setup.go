package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// setupFlags are swtpm_setup's options, as they were typed.
type setupFlags struct {
	tpmState, tpm, config, logfile, vmid, runas       string
	keyfile, keyfileFD, pwdfile, pwdfileFD, cipher    string
	pcrBanks, rsaKeySize, writeCerts, localCA         string
	tpm2, createEK, ekCert, platformCert, lockNVRAM   bool
	overwrite, notOverwrite, reconfigure, display     bool
	createSRK, takeOwnership, ecc, decryption, printV bool
	printCapabilities                                 bool
	createConfigFiles                                 string
	algorithms, profile, profileName                  string
}

func newVTPMSetupCommand(a *app) *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make a vTPM with its endorsement keys and certificates, with swtpm_setup's options",
		Long: `Make a new vTPM in a state directory: endorsement keys RSA-2048, P-256 and P-384, their
certificates and a platform certificate from a CA on this machine, and the PCR banks.
The options are those of swtpm_setup, so libvirt calls it unchanged.`,
		Example: `  vouchsafe vtpm setup --tpm2 --tpmstate /var/lib/vtpm/web1 --vmid web1 \
      --create-ek-cert --create-platform-cert --lock-nvram --pcr-banks sha256,sha384`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("create-config-files") {
				return nil // swtpm_setup has a word after it without =
			}
			return exactArgs(0)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.reconfigure && f.algorithms != "" && !cmd.Flags().Changed("pcr-banks") {
				f.pcrBanks = "-" // as they are
			}
			return a.refused(setupVTPM(cmd.Context(), a, f))
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "tpm-state":
			name = "tpmstate"
		case "create-ek":
			name = "createek"
		case "create-srk":
			name = "create-spk"
		}
		return pflag.NormalizedName(name)
	})
	fl.StringVar(&f.tpmState, "tpmstate", "", "the state directory, also as dir://DIR")
	fl.StringVar(&f.vmid, "vmid", "", "name and id of the VM: the subject of the certificates")
	fl.BoolVar(&f.createEK, "createek", false, "make the endorsement keys")
	fl.BoolVar(&f.ekCert, "create-ek-cert", false, "make their certificates as well")
	fl.BoolVar(&f.platformCert, "create-platform-cert", false, "and a platform certificate")
	fl.BoolVar(&f.lockNVRAM, "lock-nvram", false, "write-lock the certificates")
	fl.BoolVar(&f.createSRK, "create-spk", false, "make a storage root key at 0x81000001")
	fl.BoolVar(&f.takeOwnership, "take-ownership", false, "the same as --create-spk: a TPM 2.0's owner is the guest")
	fl.BoolVar(&f.ecc, "ecc", false, "the storage root key is P-384 (default RSA-2048)")
	fl.StringVar(&f.pcrBanks, "pcr-banks", "sha256", "PCR banks to activate, comma-separated; - leaves all active")
	fl.StringVar(&f.algorithms, "algorithms", "", "all, or classical: without ML-KEM and ML-DSA, which some programs in guests do not know (default all; with --reconfigure: as it is)")
	fl.StringVar(&f.profileName, "profile-name", "", "of a new vTPM: null or default-v1, as libtpms has them, is classical; all is all")
	fl.StringVar(&f.profile, "profile", "", `the same as JSON: {"Name": "default-v1"}`)
	fl.StringVar(&f.writeCerts, "write-ek-cert-files", "", "write the EK certificates (DER) into this directory too")
	fl.BoolVar(&f.overwrite, "overwrite", false, "replace a vTPM that is there: its keys are lost")
	fl.BoolVar(&f.notOverwrite, "not-overwrite", false, "leave a vTPM that is there, and succeed")
	fl.BoolVar(&f.reconfigure, "reconfigure", false, "change the PCR banks, or the algorithms, of a vTPM that is there")
	fl.StringVar(&f.keyfile, "keyfile", "", "seal the state with the key (hexadecimal) in this file")
	fl.StringVar(&f.keyfileFD, "keyfile-fd", "", "the same, from a descriptor")
	fl.StringVar(&f.pwdfile, "pwdfile", "", "seal the state with the passphrase in this file")
	fl.StringVar(&f.pwdfileFD, "pwdfile-fd", "", "the same, from a descriptor")
	fl.StringVar(&f.cipher, "cipher", "", "accepted; the sealing is always our own")
	fl.StringVar(&f.logfile, "logfile", "", "write the log there (default: standard error)")
	fl.StringVar(&f.localCA, "local-ca", "", "directory of this machine's CA (default: VOUCHSAFE_LOCAL_CA, else /var/lib/vouchsafe/local-ca, else below XDG_STATE_HOME)")
	fl.StringVar(&f.runas, "runas", "", "become this user first")
	fl.BoolVar(&f.display, "display", false, "print what was made, as JSON")
	fl.BoolVar(&f.tpm2, "tpm2", false, "a TPM 2.0; accepted, there is no other")
	fl.BoolVar(&f.decryption, "decryption", false, "accepted: an endorsement key deciphers")
	fl.StringVar(&f.rsaKeySize, "rsa-keysize", "2048", "size of the RSA endorsement key: 2048")
	fl.BoolVar(&f.printCapabilities, "print-capabilities", false, "print what this program can do, as JSON, and end")
	fl.StringVar(&f.createConfigFiles, "create-config-files", "", "accepted: there are none to create")
	fl.Lookup("create-config-files").NoOptDefVal = "yes"
	fl.BoolVar(&f.printV, "version", false, "print the version and end")
	for name, value := range map[string]*string{"tpm": &f.tpm, "swtpm_ioctl": new(string), "config": &f.config, "tcsd-system-ps-file": new(string), "ownerpass": new(string), "srkpass": new(string)} {
		fl.StringVar(value, name, "", "accepted and not used")
		fl.MarkHidden(name)
	}
	for _, name := range []string{"owner-well-known", "srk-well-known"} { // of a TPM 1.2
		fl.Bool(name, false, "accepted and not used")
		fl.MarkHidden(name)
	}
	answerSwtpmOptions(cmd)
	return cmd
}

func setupVTPM(ctx context.Context, a *app, f setupFlags) error {
	switch {
	case f.printV:
		_, err := fmt.Fprintf(a.out, "TPM emulator setup tool version %s (vouchsafe)\n", version)
		return err
	case f.printCapabilities:
		return a.printJSON(capabilityList{"swtpm_setup", withAside(ctx, "swtpm_setup", []string{
			"tpm-2.0", "cmdarg-keyfile-fd", "cmdarg-pwdfile-fd", "tpm12-not-need-root", "cmdarg-write-ek-cert-files",
			"cmdarg-create-config-files", "cmdarg-reconfigure-pcr-banks", "cmdarg-profile", "tpm2-rsa-keysize-2048",
		}), version})
	case f.createConfigFiles != "":
		return nil
	case f.cipher != "" && !slices.Contains(cipherModes, f.cipher):
		return usageError{fmt.Errorf("--cipher %s: it is aes-128-cbc or aes-256-cbc", f.cipher)}
	case f.rsaKeySize != "2048" && f.rsaKeySize != "max":
		return usageError{fmt.Errorf("--rsa-keysize %s: the endorsement key has 2048 bits", f.rsaKeySize)}
	case f.tpmState == "":
		return withHint(usageError{errors.New("where should the state be? there is no --tpmstate")}, "add --tpmstate DIR")
	}
	if err := becomeUser(f.runas); err != nil {
		return err
	}
	log, err := setupLog(a, f.logfile)
	if err != nil {
		return err
	}
	dir, err := backendDir(f.tpmState)
	if err != nil {
		return err
	}
	key, err := setupKey(f)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return withHint(fmt.Errorf("the state directory %s is not there", dir), "mkdir -m 700 %s", dir)
	} else if err == nil && !info.IsDir() {
		return usageError{fmt.Errorf("--tpmstate %s is no directory", dir)}
	}
	exists := len(vtpm.States(dir)) > 0
	// What can fail is to fail before a vTPM that is there goes.
	var p vtpm.Provisioning
	if !exists || !f.notOverwrite {
		if p, err = provisioning(f, log); err != nil {
			return err
		}
	}
	switch {
	case f.reconfigure && !exists:
		return fmt.Errorf("reconfiguring %s: there is no vTPM", dir)
	case f.reconfigure: // goes on below
	case exists && f.notOverwrite:
		log.Info("a vTPM is there and stays as it is", "dir", dir)
		return nil
	case exists && !f.overwrite:
		return withHint(fmt.Errorf("%s holds a vTPM already", dir), "--not-overwrite leaves it and succeeds; --overwrite replaces it, and its keys are lost")
	case exists:
		if err := vtpm.Remove(dir); err != nil {
			return err
		}
		log.Warn("the vTPM that was there is gone, with its keys", "dir", dir)
	}
	return setUp(a, f, vtpm.Config{Dir: dir, Key: key, Log: log, TakeOver: f.reconfigure}, p, log)
}

// setUp opens the directory and provisions the TPM in it.
func setUp(a *app, f setupFlags, cfg vtpm.Config, p vtpm.Provisioning, log *slog.Logger) error {
	start := time.Now()
	instance, err := vtpm.Open(cfg)
	if err != nil {
		return err
	}
	defer instance.Close()
	eks, err := instance.Provision(p)
	if err != nil {
		return err
	}
	type made struct {
		EK          string `json:"ek"`
		Handle      string `json:"handle"`
		Certificate string `json:"certificate,omitempty"`
	}
	doc := struct {
		VTPM string   `json:"vtpm"`
		Dir  string   `json:"dir"`
		EKs  []made   `json:"eks"`
		Took string   `json:"took"`
		Bank []string `json:"pcr_banks,omitempty"`
		Algs string   `json:"algorithms,omitempty"`
	}{instance.ID().String(), cfg.Dir, []made{}, time.Since(start).Round(time.Millisecond).String(), p.Banks, ""}
	if p.AlgorithmSet != nil {
		doc.Algs = algorithmsOf(*p.AlgorithmSet)
	}
	for _, ek := range eks {
		m := made{EK: ek.Name, Handle: fmt.Sprintf("0x%08x", uint32(ek.Handle))}
		if ek.Certificate != nil {
			m.Certificate = fmt.Sprintf("0x%08x", uint32(ek.Index))
		}
		doc.EKs = append(doc.EKs, m)
		if f.writeCerts != "" && ek.Certificate != nil {
			if err := os.WriteFile(filepath.Join(f.writeCerts, "ek-"+ek.Name+".crt"), ek.Certificate, 0o644); err != nil {
				return err
			}
		}
	}
	if err := instance.Close(); err != nil {
		return err
	}
	log.Info("the vTPM is set up", "dir", cfg.Dir, "vtpm", doc.VTPM, "eks", len(eks), "took", doc.Took)
	if f.display || a.json {
		return a.printJSON(doc)
	}
	return nil
}

// provisioning turns the options into what a manufacturer does.
func provisioning(f setupFlags, log *slog.Logger) (vtpm.Provisioning, error) {
	p := vtpm.Provisioning{Lock: f.lockNVRAM}
	var err error
	if p.AlgorithmSet, err = f.algorithmSet(); err != nil {
		return p, err
	}
	if f.pcrBanks != "-" && f.pcrBanks != "" {
		p.Banks = strings.Split(f.pcrBanks, ",")
		if err := vtpm.CheckBanks(p.Banks); err != nil {
			return p, usageError{fmt.Errorf("--pcr-banks: %w", err)}
		}
	}
	if f.writeCerts != "" {
		if _, err := os.Stat(f.writeCerts); err != nil {
			return p, fmt.Errorf("--write-ek-cert-files: %w", err)
		}
	}
	if f.reconfigure {
		return p, nil
	}
	p.EKs = f.createEK || f.takeOwnership
	if f.createSRK || f.takeOwnership {
		p.SRK = "rsa2048"
		if f.ecc {
			p.SRK = "secp384r1"
		}
	}
	if !f.ekCert && !f.platformCert {
		return p, nil
	}
	issuer, err := openLocalCA(f.localCA, log)
	if err != nil {
		return p, err
	}
	now := time.Now()
	id := vtpm.Identity()
	p.Certify = func(ek vtpm.EK) ([]byte, error) {
		return issuer.IssueEK(ca.EK{Public: ek.Public, CommonName: f.vmid}, ca.TPM(id), now)
	}
	if f.platformCert {
		p.CertifyPlatform = func(ek vtpm.EK) ([]byte, error) {
			return issuer.IssuePlatform(ca.EK{Public: ek.Public, CommonName: f.vmid}, ca.Platform{Manufacturer: "QEMU", Model: "QEMU", Version: "1"}, now)
		}
	}
	return p, nil
}

// setupKey reads one of the four ways to name a key.
func setupKey(f setupFlags) (vtpm.Key, error) {
	var words []string
	for name, value := range map[string]string{"file": f.keyfile, "fd": f.keyfileFD, "pwdfile": f.pwdfile, "pwdfd": f.pwdfileFD} {
		if value != "" {
			words = append(words, name+"="+value)
		}
	}
	if len(words) > 1 {
		return vtpm.Key{}, usageError{errors.New("give one of --keyfile, --keyfile-fd, --pwdfile, --pwdfile-fd")}
	}
	return parseKey("key", strings.Join(words, ","))
}

func setupLog(a *app, file string) (*slog.Logger, error) {
	if file == "" {
		return openLog(a.err, "")
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	// A failed setup is told to the person as well; libvirt shows the log's end.
	return slog.New(slog.NewTextHandler(f, nil)), nil
}

// systemCA is where the package puts the CA that libvirt's calls share.
const systemCA = "/var/lib/vouchsafe/local-ca"

// localCADir finds this machine's, or this user's, CA.
func localCADir(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	if dir := os.Getenv("VOUCHSAFE_LOCAL_CA"); dir != "" {
		return dir, nil
	}
	if info, err := os.Stat(systemCA); err == nil && info.IsDir() && syscall.Access(systemCA, 2) == nil {
		return systemCA, nil
	}
	if os.Geteuid() == 0 {
		return systemCA, nil
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", withHint(fmt.Errorf("finding a place for the local CA: %w", err), "name one: --local-ca DIR")
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "vouchsafe", "local-ca"), nil
}

// openLocalCA opens the CA in dir, or makes one there. A lock lets several
// setups begin at once on a new machine.
func openLocalCA(named string, log *slog.Logger) (ca.Issuer, error) {
	dir, err := localCADir(named)
	if err != nil {
		return ca.Issuer{}, err
	}
	issuer, err := loadOrMakeCA(dir, log)
	if err != nil {
		return issuer, fmt.Errorf("opening the local CA in %s: %w", dir, err)
	}
	return issuer, nil
}

func loadOrMakeCA(dir string, log *slog.Logger) (ca.Issuer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return ca.Issuer{}, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return ca.Issuer{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return ca.Issuer{}, err
	}
	keyFile, certFile := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.pem")
	keyPEM, err := os.ReadFile(keyFile)
	if err == nil {
		certPEM, err := os.ReadFile(certFile)
		if err != nil {
			return ca.Issuer{}, err
		}
		return ca.ParseIssuer(certPEM, keyPEM)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return ca.Issuer{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	issuer, err := ca.NewLocalCA("vouchsafe local CA of "+host, time.Now())
	if err != nil {
		return issuer, err
	}
	certPEM, keyPEM, err := issuer.PEM()
	if err != nil {
		return issuer, err
	}
	defer clear(keyPEM)
	// The certificate first: the key alone decides that the CA is there.
	if err := os.WriteFile(certFile, certPEM, 0o644); err != nil {
		return issuer, err
	}
	temp := keyFile + ".tmp"
	if err := os.WriteFile(temp, keyPEM, 0o600); err != nil {
		return issuer, err
	}
	log.Info("a CA was made for this machine's vTPMs", "certificate", certFile)
	return issuer, os.Rename(temp, keyFile)
}
