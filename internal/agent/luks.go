package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// LUKS is a LUKS2 volume on a device or in a file. All work is on a copy of its
// header: whoever can change the disk while we look at it changes nothing.
type LUKS struct {
	Device  string
	Scratch string // a directory in memory for the copy, such as /run
}

// The cipher that we format with, and the only one that is opened: the header
// is not authenticated, and with cipher_null in it the right key would open a
// disk that somebody else wrote.
const luksCipher = "aes-xts-plain64"

// ErrOtherDisk means that this is not the disk that was recorded.
var ErrOtherDisk = errors.New("this is not the disk that the service knows: its volume key is another one (DISK_SWAPPED)")

// ErrShut means that the right key does not open what is there: somebody else's
// disk, an empty one, or a changed header.
var ErrShut = errors.New("the VM's key does not open it: this is another disk, or its header was changed (DISK_SWAPPED)")

// Formatted says whether there is a LUKS header.
func (l LUKS) Formatted(ctx context.Context) (bool, error) {
	_, err := cryptsetup(ctx, nil, "isLuks", "--type", "luks2", l.Device)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

// Format makes a volume with a new volume key and returns its digest. The
// passphrase has 256 random bits, so it needs no slow hash. 4 MiB hold 16 key
// slots, and a header of that size is copied quickly before each opening.
func (l LUKS) Format(ctx context.Context, key secret.Bytes) ([]byte, error) {
	_, err := cryptsetup(ctx, key.Reveal(), "luksFormat", "--batch-mode", "--type", "luks2", "--cipher", luksCipher, "--key-size", "512",
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--luks2-keyslots-size", "4m", "--key-file", "-", l.Device)
	if err != nil {
		return nil, fmt.Errorf("formatting %s: %w", l.Device, err)
	}
	digest, copied, err := l.inspect(ctx, key)
	if err == nil {
		copied.remove()
	}
	return digest, err
}

// Check opens the volume key with key and compares its digest with the recorded
// one, before anything on the disk is looked at.
func (l LUKS) Check(ctx context.Context, key secret.Bytes, want []byte) error {
	got, header, err := l.inspect(ctx, key)
	if err != nil {
		return fmt.Errorf("checking %s: %w", l.Device, err)
	}
	defer header.remove()
	if !bytes.Equal(got, want) {
		return fmt.Errorf("checking %s: %w", l.Device, ErrOtherDisk)
	}
	return nil
}

// Open checks the volume and maps it to /dev/mapper/NAME, by the header that was checked.
func (l LUKS) Open(ctx context.Context, key secret.Bytes, want []byte, name string) error {
	got, header, err := l.inspect(ctx, key)
	if err != nil {
		return fmt.Errorf("opening %s: %w", l.Device, err)
	}
	defer header.remove()
	if !bytes.Equal(got, want) {
		return fmt.Errorf("opening %s: %w", l.Device, ErrOtherDisk)
	}
	if _, err := cryptsetup(ctx, key.Reveal(), "open", "--type", "luks2", "--header", string(header), "--key-file", "-", l.Device, name); err != nil {
		return fmt.Errorf("opening %s: %w", l.Device, err)
	}
	return nil
}

// header is the path of a copy, in a directory of its own: two disks may be opened
// at the same moment.
type header string

func (h header) remove() { os.RemoveAll(filepath.Dir(string(h))) }

// inspect copies the header, checks what it says of the cipher, and returns the
// digest of the volume key. The caller removes the copy.
func (l LUKS) inspect(ctx context.Context, key secret.Bytes) (digest []byte, copied header, err error) {
	dir, err := os.MkdirTemp(l.Scratch, "vouchsafe-header-*")
	if err != nil {
		return nil, "", err
	}
	copied = header(filepath.Join(dir, "header"))
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if there, err := l.Formatted(ctx); err != nil || !there {
		if _, gone := os.Stat(l.Device); gone != nil {
			return nil, "", gone
		}
		return nil, "", errors.Join(err, fmt.Errorf("there is no LUKS2 header: %w", ErrShut))
	}
	if _, err := cryptsetup(ctx, nil, "luksHeaderBackup", "--header-backup-file", string(copied), l.Device); err != nil {
		return nil, "", err
	}
	text, err := cryptsetup(ctx, nil, "luksDump", "--dump-json-metadata", string(copied))
	if err != nil {
		return nil, "", err
	}
	if err := checkMetadata(text); err != nil {
		return nil, "", err
	}
	dump, err := cryptsetup(ctx, key.Reveal(), "luksDump", "--batch-mode", "--dump-volume-key", "--key-file", "-", string(copied))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == noPermission {
		return nil, "", ErrShut
	}
	if err != nil {
		return nil, "", err
	}
	defer clear(dump)
	volume, err := volumeKey(dump)
	if err != nil {
		return nil, "", err
	}
	defer clear(volume)
	sum := sha256.Sum256(volume)
	return sum[:], copied, nil
}

// checkMetadata wants one segment, encrypted with our cipher.
func checkMetadata(text []byte) error {
	var m struct {
		Segments map[string]struct{ Type, Encryption string }
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("reading the LUKS header: %w", err)
	}
	for _, s := range m.Segments {
		if len(m.Segments) == 1 && s.Type == "crypt" && s.Encryption == luksCipher {
			return nil
		}
		return fmt.Errorf("the LUKS header says %.40q with %.40q in %d segments; want one of %s: it was changed (DISK_SWAPPED)", s.Type, s.Encryption, len(m.Segments), luksCipher)
	}
	return errors.New("the LUKS header has no segment: it was changed (DISK_SWAPPED)")
}

// volumeKey reads what luksDump --dump-volume-key prints: "MK dump:" and lines
// of hexadecimal bytes.
func volumeKey(dump []byte) ([]byte, error) {
	_, text, ok := strings.Cut(string(dump), "MK dump:")
	if !ok {
		return nil, errors.New("reading the volume key: cryptsetup printed none")
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(b) != 64 {
		return nil, errors.New("reading the volume key: cryptsetup printed something else")
	}
	return b, nil
}

// noPermission is cryptsetup's exit code for a key that opens no slot (cryptsetup(8), RETURN CODES).
const noPermission = 2

// cryptsetup runs it with key on standard input. Nothing secret is an argument.
func cryptsetup(ctx context.Context, key []byte, args ...string) ([]byte, error) {
	path, err := exec.LookPath("cryptsetup")
	if err != nil {
		for _, p := range []string{"/usr/sbin/cryptsetup", "/sbin/cryptsetup"} {
			if _, e := os.Stat(p); e == nil {
				path, err = p, nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install cryptsetup-bin", err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = bytes.NewReader(key)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("cryptsetup %s: %s: %w", args[0], strings.TrimSpace(complaint.String()), err)
	}
	return out.Bytes(), nil
}
