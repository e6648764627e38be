package vtpm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Examine reads the state in a directory as it lies: it takes no lock, changes
// nothing, and starts no TPM but one that forgets everything, so it may run
// beside the process that uses the directory. It returns which of the keys opens
// the state. With none, only what stands in clear is examined, and which is -1.
//
// A [Refusal] says what is wrong. While the TPM is in use, one may be the moment
// between two files: ask again before it is believed.
func Examine(path string, keys ...Key) (which int, err error) {
	if len(keys) == 0 {
		return -1, examineClear(path)
	}
	for n, key := range keys {
		err = examine(path, key)
		var r *Refusal
		if !errors.As(err, &r) || r.Finding.Code != "STATE_WRONG_KEY" {
			return n, err
		}
	}
	return -1, err
}

func examine(path string, key Key) error {
	i, err := open(Config{Dir: path, Key: key, DeferLock: true}, engineMaker)
	if err != nil {
		return err
	}
	defer clear(i.boxes)
	perm, err := i.load()
	if err != nil {
		return err
	}
	defer clear(perm)
	if perm == nil {
		return errNoState
	}
	vol, err := i.loadVolatile()
	if err != nil {
		return err
	}
	defer clear(vol)
	if err := i.rehearse(perm, vol); err != nil {
		var r *Refusal
		if errors.As(err, &r) {
			return refuse(r.Finding.Code, filepath.Join(path, permanentFile), r.Finding.Evidence, path)
		}
		return err
	}
	return nil
}

// Written reads the generation of the state in a directory as its header says it
// in clear: how often the state was written. Only who opens the state knows that
// it is true.
func Written(path string) (uint64, error) {
	d := dir{path: path}
	file, err := d.read(permanentFile)
	if err != nil {
		return 0, err
	}
	if file == nil {
		return 0, errNoState
	}
	h, _, err := split(file)
	if err != nil {
		return 0, refuse("STATE_DAMAGED", filepath.Join(path, permanentFile), err.Error(), filepath.Join(path, permanentFile))
	}
	return h.generation, nil
}

// errNoState: there is no permanent state at all, and nothing else that tells of one.
var errNoState = fmt.Errorf("there is no %s: %w", permanentFile, os.ErrNotExist)

// examineClear looks at what a sealed state says in clear.
func examineClear(path string) error {
	i := &Instance{dir: dir{path: path}}
	file, err := i.dir.read(permanentFile)
	if err != nil {
		return err
	}
	if file == nil {
		if i.dir.has(volatileFile) {
			return refuse("STATE_INCOMPLETE", path, "there is "+volatileFile+", but no "+permanentFile, path)
		}
		return errNoState
	}
	p, err := i.clear(permanentFile, permanent, file)
	if err != nil {
		return err
	}
	file, err = i.dir.read(volatileFile)
	if err != nil || file == nil {
		return err
	}
	i.id = p.id
	v, err := i.clear(volatileFile, volatile, file)
	if err == nil && v.generation != p.generation {
		err = refuse("STATE_INCOMPLETE", filepath.Join(path, volatileFile), fmt.Sprintf("it belongs to generation %d, the permanent state is %d", v.generation, p.generation), path)
	}
	return err
}

// clear checks a header; the missing key is what a sealed state is to answer.
func (i *Instance) clear(name string, want kind, file []byte) (header, error) {
	h, _, err := i.unseal(filepath.Join(i.dir.path, name), want, file, Key{}, false)
	var r *Refusal
	switch {
	case errors.As(err, &r) && r.Finding.Code == "STATE_KEY_MISSING":
		return h, nil
	case err == nil:
		return h, refuse("STATE_NOT_SEALED", filepath.Join(i.dir.path, name), "the state is in clear", i.dir.path, "")
	}
	return h, err
}
