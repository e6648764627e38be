package main

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// serveFlags are swtpm's options, as they were typed.
type serveFlags struct {
	tpm2, terminate, daemon               bool
	tpmstate, server, ctrl, flags         string
	key, migrationKey, locality, seccomp  string
	log, pid, migration, runas            string
	port, fd, minGeneration               string
	printCapabilities, printStates, about bool
	takeOver                              bool
	algorithms                            string
}

func newVTPMServeCommand(a *app) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [socket]",
		Short: "Serve one vTPM on sockets, with swtpm's options",
		Long: `Serve one vTPM on sockets. The options are those of "swtpm socket", so QEMU, libvirt,
tpm2-tss and scripts made for swtpm work unchanged; called by the name swtpm, this
program takes the same command line.`,
		Example: `  vouchsafe vtpm serve --tpm2 --tpmstate dir=/var/lib/vtpm/web1 --ctrl type=unixio,path=/run/web1.sock
  qemu-system-x86_64 … -chardev socket,id=c,path=/run/web1.sock -tpmdev emulator,id=t,chardev=c -device tpm-crb,tpmdev=t

  vouchsafe vtpm serve --tpm2 --tpmstate dir=. --server port=2321 --ctrl type=tcp,port=2322 --flags not-need-init,startup-clear
  tpm2_getrandom -T swtpm:port=2321 --hex 8`,
		Args: usageArgs(func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "socket" {
				return fmt.Errorf("%q: only sockets are served (swtpm's chardev and cuse are not)", strings.Join(args, " "))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.refused(serveVTPM(cmd.Context(), a, f)) },
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.tpmstate, "tpmstate", "", "where the state is: dir=DIR|backend-uri=dir://DIR[,mode=0600]")
	fl.StringVar(&f.server, "server", "", "data channel: [type=tcp,]port=N[,bindaddr=ADDR] | type=unixio,path=PATH[,mode=,uid=,gid=] | fd=N [,disconnect]")
	fl.StringVar(&f.ctrl, "ctrl", "", "control channel: type=unixio,path=PATH[,mode=,uid=,gid=] | type=tcp,port=N[,bindaddr=ADDR] | fd=N | clientfd=N [,terminate]")
	fl.StringVar(&f.flags, "flags", "", "not-need-init,startup-clear|startup-state|startup-none,disable-auto-shutdown")
	fl.StringVar(&f.key, "key", "", "seal the state: file=FILE|fd=N[,format=hex|binary] | pwdfile=FILE|pwdfd=N [,mode=…,remove=true]")
	fl.StringVar(&f.migrationKey, "migration-key", "", "seal the state on the move, like --key")
	fl.StringVar(&f.migration, "migration", "", "shared storage: incoming,release-lock-outgoing")
	fl.StringVar(&f.minGeneration, "min-generation", "0", "refuse a state older than this generation")
	fl.BoolVar(&f.takeOver, "take-over", false, "take over the TPM of swtpm in --tpmstate when there is no other; the name swtpm implies it")
	fl.StringVar(&f.algorithms, "algorithms", "all", "of a TPM that is made here: all, or classical (see vtpm setup); the name swtpm implies classical")
	fl.StringVar(&f.locality, "locality", "", "reject-locality-4,allow-set-locality")
	fl.StringVar(&f.log, "log", "", "file=FILE|fd=N[,level=N][,truncate]; file=- for none (default: standard error)")
	fl.StringVar(&f.pid, "pid", "", "write the process id: file=FILE|fd=N")
	fl.BoolVarP(&f.terminate, "terminate", "t", false, "end when the data connection is lost")
	fl.BoolVarP(&f.daemon, "daemon", "d", false, "go to the background once the sockets are there")
	fl.StringVarP(&f.runas, "runas", "r", "", "become this user before anything is opened")
	fl.StringVarP(&f.port, "port", "p", "", "the same as --server port=N")
	fl.StringVarP(&f.fd, "fd", "f", "", "the same as --server fd=N")
	fl.BoolVar(&f.tpm2, "tpm2", false, "a TPM 2.0; accepted, there is no other")
	fl.StringVar(&f.seccomp, "seccomp", "", "action=none|kill|log; accepted and noted in the log")
	fl.BoolVar(&f.printCapabilities, "print-capabilities", false, "print what this program can do, as JSON, and end")
	fl.BoolVar(&f.printCapabilities, "print-capabilites", false, "")
	fl.MarkHidden("print-capabilites") // swtpm's help spells it so
	fl.BoolVar(&f.printStates, "print-states", false, "print which states are in --tpmstate, as JSON, and end")
	fl.BoolVarP(&f.about, "version", "v", false, "print the version and end")
	answerSwtpmOptions(cmd)
	return cmd
}

// capabilityList is what libvirt and others ask for before they use an option.
type capabilityList struct {
	Type     string   `json:"type"`
	Features []string `json:"features"`
	Version  string   `json:"version"`
}

func serveVTPM(ctx context.Context, a *app, f serveFlags) error {
	switch {
	case f.about:
		_, err := fmt.Fprintf(a.out, "TPM emulator version %s (vouchsafe)\n", version)
		return err
	case f.printCapabilities:
		return a.printJSON(capabilityList{"swtpm", withAside(ctx, "swtpm", []string{
			"tpm-2.0", "tpm-send-command-header", "flags-opt-startup", "flags-opt-disable-auto-shutdown", "ctrl-opt-terminate",
			"cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-print-states", "cmdarg-migration", "nvram-backend-dir",
			"tpmstate-opt-lock", "tpmstate-dir-backend-opt-fsync", // always so
		}), version})
	}
	if fips140.Enforced() { // the first guest that uses SHA-1 would stop its TPM
		return withHint(errors.New("a TPM does not run under GODEBUG=fips140=only: guests ask for SHA-1 and short HMAC keys"), "use GODEBUG=fips140=on; docs/FIPS.md says what runs inside the module")
	}
	dir, mode, err := tpmStateDir("tpmstate", f.tpmstate)
	if err != nil {
		return err
	}
	if f.printStates {
		return printStates(a, dir)
	}
	if f.daemon && !isDaemon() {
		return startDaemon(a)
	}
	if err := becomeUser(f.runas); err != nil {
		return err
	}
	log, err := openLog(a.err, f.log)
	if err != nil {
		return err
	}
	err = serveLogged(ctx, f, vtpm.Config{Dir: dir, Mode: mode, Log: log, TakeOver: f.takeOver})
	if err != nil && f.log != "" {
		log.Error("the vTPM is not served", "err", err) // where libvirt's people look first
	}
	return err
}

// serveLogged reads the options that are left; cfg has a log by now.
func serveLogged(ctx context.Context, f serveFlags, cfg vtpm.Config) error {
	log := cfg.Log
	if f.takeOver && !f.tpm2 {
		log.Warn("--tpm2 is missing: swtpm would serve a TPM 1.2, this program serves a TPM 2.0")
	}
	if f.seccomp != "" {
		s, err := parseSettings("seccomp", f.seccomp, "action")
		if err != nil {
			return err
		}
		if !slices.Contains([]string{"none", "kill", "log"}, s["action"]) {
			return usageError{fmt.Errorf("--seccomp action=%s: it is none, kill or log", s["action"])}
		}
		log.Info("noted: --seccomp; this program runs no machine code of a guest and installs no filter", "seccomp", f.seccomp)
	}
	var err error
	if cfg.AlgorithmSet, err = algorithmSet(f.algorithms); err != nil {
		return err
	}
	flags, err := parseSettings("flags", f.flags, "not-need-init", "startup-clear", "startup-state", "startup-none", "disable-auto-shutdown")
	if err != nil {
		return err
	}
	cfg.NoAutoShutdown = flags.has("disable-auto-shutdown")
	if cfg.Key, err = parseKey("key", f.key); err != nil {
		return err
	}
	if cfg.MigrationKey, err = parseKey("migration-key", f.migrationKey); err != nil {
		return err
	}
	migration, err := parseSettings("migration", f.migration, "incoming", "release-lock-outgoing")
	if err != nil {
		return err
	}
	cfg.DeferLock, cfg.ReleaseLock = migration.has("incoming"), migration.has("release-lock-outgoing")
	if cfg.MinGeneration, err = strconv.ParseUint(f.minGeneration, 10, 64); err != nil {
		return usageError{fmt.Errorf("--min-generation %s is no number", f.minGeneration)}
	}
	return serveInstance(ctx, f, cfg, flags)
}

// serveInstance opens the state and the sockets, serves, and closes all.
func serveInstance(ctx context.Context, f serveFlags, cfg vtpm.Config, flags settings) error {
	server, err := openChannels(f)
	if err != nil {
		return err
	}
	defer closeChannels(server)
	if server.Control == nil && server.ControlConn == nil && !poweredOn(flags) {
		return withHint(usageError{errors.New("nobody could switch the TPM on: there is no --ctrl")}, "add --ctrl, or --flags not-need-init,startup-clear")
	}
	instance, err := vtpm.Open(cfg)
	if err != nil {
		return err
	}
	defer instance.Close()
	server.Device = instance
	server.Dedicated = true
	server.StopOnDataClose = f.terminate
	locality, err := parseSettings("locality", f.locality, "reject-locality-4", "allow-set-locality")
	if err != nil {
		return err
	}
	server.RejectLocality4, server.AllowSetLocality = locality.has("reject-locality-4"), locality.has("allow-set-locality")
	if err := startup(instance, cfg.Dir, flags); err != nil {
		return err
	}
	removePID, err := writePID(f.pid)
	if err != nil {
		return err
	}
	defer removePID()
	if err := daemonReady(); err != nil {
		return err
	}
	cfg.Log.Info("serving", "data", channelName(server.Data, server.DataConn), "control", channelName(server.Control, server.ControlConn), "dir", cfg.Dir, "version", version)
	err = server.Serve(ctx)
	if e := instance.Close(); err == nil {
		err = e
	}
	return err
}

// poweredOn says whether --flags wants the TPM on without a CMD_INIT.
func poweredOn(flags settings) bool {
	return flags.has("not-need-init") || flags.has("startup-clear") || flags.has("startup-state")
}

// startup powers the TPM on when --flags says so, and sends TPM2_Startup.
func startup(instance *vtpm.Instance, dir string, flags settings) error {
	if !poweredOn(flags) {
		return nil
	}
	if err := instance.PowerOn(swtpm.Peer{}, false); err != nil {
		return err
	}
	for name, su := range map[string]byte{"startup-clear": 0, "startup-state": 1} {
		if !flags.has(name) {
			continue
		}
		// TPM2_Startup, Part 3, 9.3
		r := instance.Execute(0, []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, su}, nil)
		// TPM_RC_INITIALIZE: it was resumed, and is past that.
		if rc := r[6:10]; !slices.Equal(rc, []byte{0, 0, 0, 0}) && !slices.Equal(rc, []byte{0, 0, 1, 0}) {
			err := fmt.Errorf("starting the TPM (--flags %s): response code 0x%x", name, rc)
			if slices.Equal(rc, []byte{0, 0, 0x09, 0x23}) { // TPM_RC_NV_UNAVAILABLE
				return withHint(err, "the state cannot be written, and the log says why; is there room? df -h %s", dir)
			}
			return err
		}
	}
	return nil
}

// openLog opens --log. Levels are swtpm's numbers: 5 and more is everything.
func openLog(usual io.Writer, value string) (*slog.Logger, error) {
	s, err := parseSettings("log", value, "file", "fd", "level", "prefix", "truncate")
	if err != nil {
		return nil, err
	}
	level, err := s.number("level", 1, 100)
	if err != nil {
		return nil, err
	}
	w := usual
	switch {
	case s["file"] == "-":
		w = io.Discard
	case s.has("file"):
		how := os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NOFOLLOW
		if s.has("truncate") {
			how |= os.O_TRUNC
		}
		w, err = os.OpenFile(s["file"], how, 0o640)
	case s.has("fd"):
		w, err = descriptor(s, "fd")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if level >= 5 {
		options.Level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(w, options))
	if s.has("prefix") {
		log = log.With("prefix", s["prefix"])
	}
	return log, nil
}

// writePID writes --pid and returns what removes it again.
func writePID(value string) (remove func(), err error) {
	s, err := parseSettings("pid", value, "file", "fd")
	if err != nil || value == "" {
		return func() {}, err
	}
	text := []byte(strconv.Itoa(os.Getpid()))
	if s.has("fd") {
		f, err := descriptor(s, "fd")
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = f.Write(text)
		return func() {}, err
	}
	f, err := os.OpenFile(s["file"], os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("writing the process id: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return nil, err
	}
	return func() { os.Remove(s["file"]) }, nil
}

// becomeUser gives up root for --runas.
func becomeUser(name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return withHint(fmt.Errorf("there is no user %s", name), "getent passwd lists all")
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	if uid == os.Geteuid() {
		return nil
	}
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("becoming %s: %w", name, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("becoming %s: %w", name, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("becoming %s: %w", name, err)
	}
	return nil
}

// printStates is what --print-states says.
func printStates(a *app, dir string) error {
	type state struct {
		Name string `json:"name"`
		Size int64  `json:"size"`
	}
	doc := struct {
		Type   string  `json:"type"`
		States []state `json:"states"`
	}{"swtpm", []state{}}
	for _, s := range vtpm.States(dir) {
		doc.States = append(doc.States, state{map[bool]string{true: "permall", false: "volatilestate"}[s.Permanent], s.Size})
	}
	return a.printJSON(doc)
}
