package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// controlFlags are swtpm_ioctl's options.
type controlFlags struct {
	tcp, unix, hash, info, resetEstablished  string
	locality, bufferSize, lockStorage        string
	save, load                               string
	capabilities, init, stop, shutdown       bool
	established, store, cancel, keys, aboutV bool
}

func newVTPMControlCommand(a *app) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Ask or order a running vTPM through its control channel (swtpm_ioctl's options)",
		Example: `  vouchsafe vtpm control --unix /run/web1.sock --info 3
  vouchsafe vtpm control --tcp :2322 --save permanent web1.state`,
		Args: rangeArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error { return controlVTPM(a, f, args) },
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.unix, "unix", "", "the control channel's unix socket")
	fl.StringVar(&f.tcp, "tcp", "", "the control channel's HOST:PORT (default host 127.0.0.1, port 6546)")
	fl.BoolVarP(&f.capabilities, "capabilities", "c", false, "print which control commands there are, as bits")
	fl.BoolVarP(&f.init, "init", "i", false, "power on; volatile state that was stored is resumed and deleted")
	fl.BoolVar(&f.stop, "stop", false, "power off")
	fl.BoolVarP(&f.shutdown, "shutdown", "s", false, "power off and end the process")
	fl.BoolVarP(&f.established, "established", "e", false, "print the tpmEstablished bit")
	fl.StringVarP(&f.resetEstablished, "reset-established", "r", "", "reset the tpmEstablished bit, from this locality")
	fl.BoolVarP(&f.store, "store-volatile", "v", false, "keep the volatile state for the next power-on")
	fl.BoolVarP(&f.cancel, "cancel", "C", false, "cancel the running TPM command")
	fl.StringVarP(&f.locality, "locality", "l", "", "set the locality, 0 to 4")
	fl.StringVarP(&f.hash, "hash", "h", "", "measure this text into PCR 17 (- for standard input)")
	fl.StringVar(&f.save, "save", "", "permanent|volatile|savestate: write that state blob to FILE")
	fl.StringVar(&f.load, "load", "", "permanent|volatile|savestate: take that state blob from FILE")
	fl.BoolVarP(&f.keys, "keys", "g", false, "print which keys protect the state, as bits")
	fl.StringVarP(&f.bufferSize, "buffer-size", "b", "", "set the largest command (0 asks)")
	fl.StringVar(&f.info, "info", "", "print what the TPM says of itself; 1 specification, 2 attributes, 3 both")
	fl.StringVar(&f.lockStorage, "lock-storage", "", "lock the state again, with this many retries of 10 ms")
	fl.BoolVar(&f.aboutV, "version", false, "print the version and end")
	fl.Bool("help", false, "help for control")
	answerSwtpmOptions(cmd)
	return cmd
}

func controlVTPM(a *app, f controlFlags, args []string) error {
	if f.aboutV {
		_, err := fmt.Fprintf(a.out, "TPM emulator control tool version %s (vouchsafe)\n", version)
		return err
	}
	switch {
	case len(args) == 1 && f.save == "" && f.load == "": // swtpm_ioctl takes a device so
		return withHint(usageError{fmt.Errorf("%s: only vTPMs behind sockets are reached", args[0])}, "--unix PATH or --tcp HOST:PORT, as after --ctrl")
	case len(args) == 0 && (f.save != "" || f.load != ""):
		return usageError{errors.New("--save and --load want a kind of state and one FILE")}
	}
	conn, err := dialControl(f)
	if err != nil {
		var u usageError
		if errors.As(err, &u) {
			return err
		}
		return withHint(fmt.Errorf("reaching the vTPM: %w", err), "is it running, and is this the socket of its --ctrl? Try: ss -lxt")
	}
	defer conn.Close()
	// Storing state fsyncs, and power-on derives keys: seconds on a busy disk.
	c := &swtpm.Client{Conn: conn, Timeout: time.Minute}
	switch {
	case f.capabilities:
		caps, err := c.Capabilities()
		return a.answer(err, map[string]any{"capabilities": caps}, "ptm capability is 0x%x\n", caps)
	case f.init:
		return c.Init(true)
	case f.stop:
		return c.Stop()
	case f.shutdown:
		return c.Shutdown()
	case f.established:
		bit, err := c.Established()
		n := 0
		if bit {
			n = 1
		}
		return a.answer(err, map[string]any{"established": bit}, "tpmEstablished is %d\n", n)
	case f.resetEstablished != "":
		n, err := localityNumber(f.resetEstablished)
		if err != nil {
			return err
		}
		return c.ResetEstablished(n)
	case f.store:
		return c.StoreVolatile()
	case f.cancel:
		return c.Cancel()
	case f.locality != "":
		n, err := localityNumber(f.locality)
		if err != nil {
			return err
		}
		return c.SetLocality(n)
	case f.hash != "":
		return hashByControl(a, c, f.hash)
	case f.save != "":
		return saveBlob(c, f.save, args[0])
	case f.load != "":
		return loadBlob(c, f.load, args[0])
	case f.keys:
		state, migration, err := c.Config()
		bits := 0
		if state {
			bits |= 1
		}
		if migration {
			bits |= 2
		}
		return a.answer(err, map[string]any{"state_key": state, "migration_key": migration}, "ptm configuration flags: 0x%x\n", bits)
	case f.bufferSize != "":
		n, err := strconv.ParseUint(f.bufferSize, 0, 32)
		if err != nil {
			return usageError{fmt.Errorf("--buffer-size %s is no number", f.bufferSize)}
		}
		size, least, most, err := c.BufferSize(uint32(n))
		return a.answer(err, map[string]any{"size": size, "least": least, "most": most}, "TPM buffersize: %d\nminimum size  : %d\nmaximum size  : %d\n", size, least, most)
	case f.info != "":
		flags, err := strconv.ParseUint(f.info, 0, 64)
		if err != nil {
			return usageError{fmt.Errorf("--info %s is no number", f.info)}
		}
		text, err := c.Info(flags)
		return a.answer(err, json.RawMessage(text), "%s\n", text)
	case f.lockStorage != "":
		n, err := strconv.ParseUint(f.lockStorage, 0, 32)
		if err != nil {
			return usageError{fmt.Errorf("--lock-storage %s is no number", f.lockStorage)}
		}
		return c.LockStorage(uint32(n))
	}
	return usageError{errors.New("what should the vTPM do?")}
}

// answer prints what was asked for, in swtpm_ioctl's words or as JSON, unless it failed.
func (a *app) answer(err error, data any, format string, args ...any) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(data)
	}
	_, err = fmt.Fprintf(a.out, format, args...)
	return err
}

func localityNumber(s string) (uint8, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, usageError{fmt.Errorf("%s is no locality: 0 to 4", s)}
	}
	return uint8(n), nil
}

const dialTimeout = 10 * time.Second

func dialControl(f controlFlags) (net.Conn, error) {
	switch {
	case f.unix != "":
		return net.DialTimeout("unix", f.unix, dialTimeout)
	case f.tcp != "":
		host, port, found := strings.Cut(f.tcp, ":")
		if i := strings.LastIndex(f.tcp, ":"); i >= 0 {
			host, port = strings.Trim(f.tcp[:i], "[]"), f.tcp[i+1:]
		}
		if host == "" {
			host = "127.0.0.1"
		}
		if !found || port == "" {
			port = "6546"
		}
		return net.DialTimeout("tcp", net.JoinHostPort(host, port), dialTimeout)
	}
	return nil, withHint(usageError{errors.New("which vTPM? there is no --unix and no --tcp")}, "--unix PATH as after --ctrl type=unixio,path=")
}

func hashByControl(a *app, c *swtpm.Client, text string) error {
	var in io.Reader = strings.NewReader(text)
	if text == "-" {
		in = a.in
	}
	if err := c.HashStart(); err != nil {
		return err
	}
	piece := make([]byte, 4096)
	for {
		n, err := in.Read(piece)
		if n > 0 {
			if err := c.HashData(piece[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return c.HashEnd()
		}
		if err != nil {
			return err
		}
	}
}

func blobKind(name string) (swtpm.BlobKind, error) {
	for _, k := range []swtpm.BlobKind{swtpm.Permanent, swtpm.Volatile, swtpm.SaveState} {
		if k.String() == name {
			return k, nil
		}
	}
	return 0, usageError{fmt.Errorf("%q is no kind of state: permanent, volatile or savestate", name)}
}

// saveBlob writes a state blob to a new file that only its owner can read.
func saveBlob(c *swtpm.Client, name, file string) error {
	kind, err := blobKind(name)
	if err != nil {
		return err
	}
	blob, _, err := c.Blob(kind, false)
	if err != nil {
		return fmt.Errorf("fetching the %s state: %w", name, err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(blob)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func loadBlob(c *swtpm.Client, name, file string) error {
	kind, err := blobKind(name)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	blob, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return err
	}
	// What protects it is written in the blob.
	if err := c.SetBlob(kind, blob, false); err != nil {
		return fmt.Errorf("loading the %s state: %w", name, err)
	}
	return nil
}
