package main

import "github.com/google/go-tpm/tpm2"

// nvIndex is the first of the NV indices that the operations define.
const nvIndex = tpm2.TPMHandle(0x01800100)

func nvOps() []op {
	return []op{
		{"NV_Write 64B", nvWrite(64)},
		{"NV_Write 1024B", nvWrite(1024)},
		{"NV_Read 64B", nvRead(64)},
		{"NV_Read 1024B", nvRead(1024)},
		{"NV_Increment", nvIncrement},
		{"NV_Define+Undefine 64B", always(func(b *bench) error {
			if _, err := b.define(nvIndex+2, 64, tpm2.TPMNTOrdinary); err != nil {
				return err
			}
			return b.undefine(nvIndex + 2)
		})},
		{"EvictControl persist+evict ECC", evict},
	}
}

// index is an NV index as a command wants it: its handle and present Name, and its own authorization.
func (b *bench) index(h tpm2.TPMHandle) (tpm2.AuthHandle, tpm2.NamedHandle, error) {
	r, err := tpm2.NVReadPublic{NVIndex: h}.Execute(b)
	if err != nil {
		return tpm2.AuthHandle{}, tpm2.NamedHandle{}, err
	}
	return tpm2.AuthHandle{Handle: h, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)}, tpm2.NamedHandle{Handle: h, Name: r.NVName}, nil
}

func (b *bench) define(h tpm2.TPMHandle, size int, kind tpm2.TPMNT) (tpm2.AuthHandle, error) {
	pub := tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: kind}}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(pub)}).Execute(b); err != nil {
		return tpm2.AuthHandle{}, err
	}
	a, _, err := b.index(h)
	return a, err
}

func (b *bench) undefine(h tpm2.TPMHandle) error {
	_, n, err := b.index(h)
	if err != nil {
		return err
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: n}.Execute(b)
	return err
}

// writer defines an index and returns what writes it; the first write, which changes the Name, is done.
func (b *bench) writer(size int) (func() error, error) {
	if _, err := b.define(nvIndex, size, tpm2.TPMNTOrdinary); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	write := func() error {
		a, n, err := b.index(nvIndex)
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{AuthHandle: a, NVIndex: n, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}}.Execute(b)
		return err
	}
	if err := write(); err != nil {
		return nil, err
	}
	a, n, err := b.index(nvIndex)
	return func() error {
		data[0]++ // a real change, so that none is left out
		_, err := tpm2.NVWrite{AuthHandle: a, NVIndex: n, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}}.Execute(b)
		return err
	}, err
}

func nvWrite(size int) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		w, err := b.writer(size)
		return steps{run: w, after: func() { b.undefine(nvIndex) }}, err
	}
}

func nvRead(size int) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		if _, err := b.writer(size); err != nil {
			return steps{}, err
		}
		a, n, err := b.index(nvIndex)
		return steps{after: func() { b.undefine(nvIndex) }, run: func() error {
			_, err := tpm2.NVRead{AuthHandle: a, NVIndex: n, Size: uint16(size)}.Execute(b)
			return err
		}}, err
	}
}

func nvIncrement(b *bench) (steps, error) {
	h := nvIndex + 1
	if _, err := b.define(h, 8, tpm2.TPMNTCounter); err != nil {
		return steps{}, err
	}
	a, n, err := b.index(h)
	if err != nil {
		return steps{}, err
	}
	if _, err := (tpm2.NVIncrement{AuthHandle: a, NVIndex: n}).Execute(b); err != nil {
		return steps{}, err
	}
	a, n, err = b.index(h) // its Name has changed
	return steps{after: func() { b.undefine(h) }, run: func() error {
		_, err := tpm2.NVIncrement{AuthHandle: a, NVIndex: n}.Execute(b)
		return err
	}}, err
}

func evict(b *bench) (steps, error) {
	const persistent = tpm2.TPMHandle(0x81000042)
	control := func(object tpm2.TPMHandle) error {
		_, err := tpm2.EvictControl{Auth: tpm2.TPMRHOwner, PersistentHandle: persistent,
			ObjectHandle: &tpm2.NamedHandle{Handle: object, Name: b.srk.Name}}.Execute(b)
		return err
	}
	return steps{run: func() error {
		if err := control(b.srk.ObjectHandle); err != nil {
			return err
		}
		return control(persistent)
	}}, nil
}
