package main

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/modsig"
)

//go:embed demo_guest_init.sh
var guestInit []byte

// guestModules are what the guest needs of a kernel that has TPM, ext4 and serial
// ports built in; their dependencies come with them.
var guestModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "qemu_fw_cfg", "dm_crypt", "xts"}

// tree is the content of an initramfs: name without a leading slash, and file.
type tree map[string]treeFile

type treeFile struct {
	mode fs.FileMode // type and permission bits
	data []byte      // of a symbolic link: its target
}

// guestTree is what is in the guest: busybox, cryptsetup with its libraries, the
// agent, kernel modules, and /init. Nothing in it is secret, or of one VM alone.
func guestTree(p *guestParts, agent string) (tree, error) {
	t := tree{"init": {0o755, guestInit}}
	for name, file := range map[string]string{"bin/busybox": p.busybox, "bin/vouchsafe-agent": agent} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		t[name] = treeFile{0o755, data}
	}
	if err := t.addProgram(p.cryptsetup); err != nil {
		return nil, fmt.Errorf("gathering cryptsetup: %w", err)
	}
	t["bin/cryptsetup"] = treeFile{fs.ModeSymlink | 0o777, []byte(p.cryptsetup)}
	if err := t.addModules(p.modules, guestModules); err != nil {
		return nil, fmt.Errorf("gathering kernel modules: %w", err)
	}
	return t, nil
}

// addProgram adds a program and the libraries that it names, at their places.
func (t tree) addProgram(file string) error {
	name := strings.TrimPrefix(file, "/")
	if _, ok := t[name]; ok {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	t[name] = treeFile{0o755, data}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if err := t.addProgram(strings.TrimRight(string(b), "\x00")); err != nil {
				return err
			}
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, lib := range needed {
		i := slices.IndexFunc(libraryDirs, func(dir string) bool { _, err := os.Stat(path.Join(dir, lib)); return err == nil })
		if i < 0 {
			return fmt.Errorf("%s needs %s, which is in none of %v", file, lib, libraryDirs)
		}
		if err := t.addProgram(path.Join(libraryDirs[i], lib)); err != nil {
			return err
		}
	}
	return nil
}

// libraryDirs are where the dynamic loader looks without a cache.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// addModules adds modules with all that they need, and /modules: one path a line,
// in the order of loading.
func (t tree) addModules(dir string, names []string) error {
	files := map[string]string{} // a module's name: its file
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base, _, ok := strings.Cut(d.Name(), ".ko"); ok && d.Type().IsRegular() {
			files[strings.ReplaceAll(base, "-", "_")] = file
		}
		return nil
	})
	if err != nil {
		return err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return err
	}
	for _, line := range strings.Fields(string(builtin)) {
		base, _, _ := strings.Cut(path.Base(line), ".ko")
		files[strings.ReplaceAll(base, "-", "_")] = "" // nothing to load
	}
	var order []string
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("%s has no module %s", dir, name)
		}
		target := "modules/" + name + ".ko"
		if _, done := t[target]; done || file == "" {
			return nil
		}
		data, err := os.ReadFile(file)
		if err == nil {
			data, err = modsig.Decompress(data, nil)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		before, err := moduleNeeds(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		t[target] = treeFile{0o644, data}
		for _, b := range before {
			if err := add(b); err != nil {
				return err
			}
		}
		order = append(order, "/"+target)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return err
		}
	}
	t["modules.order"] = treeFile{0o644, []byte(strings.Join(order, "\n") + "\n")}
	return nil
}

// moduleNeeds reads what must be loaded before a module: depends= and
// softdep=pre: in its .modinfo section, as modprobe would.
func moduleNeeds(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it is no kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, field := range strings.Split(string(info), "\x00") {
		if v, ok := strings.CutPrefix(field, "depends="); ok && v != "" {
			out = append(out, strings.Split(v, ",")...)
		}
		if v, ok := strings.CutPrefix(field, "softdep=pre:"); ok {
			before, _, _ := strings.Cut(v, "post:")
			out = append(out, strings.Fields(before)...)
		}
	}
	return out, nil
}

// pack is the initramfs as the kernel is given it. Compressed, because without KVM each
// megabyte costs firmware and kernel a quarter of a second.
func (t tree) pack() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // its header has no time
	_, err := z.Write(t.cpio())
	if err = errors.Join(err, z.Close()); err != nil {
		panic("internal error: compressing into memory: " + err.Error())
	}
	return b.Bytes()
}

// cpio packs the tree as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst,
// "newc"). The same tree gives the same bytes: sorted names, no times, no owners.
func (t tree) cpio() []byte {
	const directory, regular, link, device = 0o040000, 0o100000, 0o120000, 0o020000
	var b bytes.Buffer
	inode := 0
	add := func(name string, mode uint32, major, minor int, data []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	dirs := map[string]bool{"dev": true, "proc": true, "root": true, "run": true, "sys": true}
	for name := range t {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for _, d := range slices.Sorted(maps.Keys(dirs)) { // parents come before their children
		add(d, directory|0o755, 0, 0, nil)
	}
	add("dev/console", device|0o600, 5, 1, nil)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		f := t[name]
		kind := uint32(regular)
		if f.mode&fs.ModeSymlink != 0 {
			kind = link
		}
		add(name, kind|uint32(f.mode.Perm()), 0, 0, f.data)
	}
	add("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}
