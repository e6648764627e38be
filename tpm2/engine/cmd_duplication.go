package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// duplicate is TPM2_Duplicate (Part 3, 13.1).
func (t *TPM) duplicate(_ *call, in *tpm2.Duplicate, out *tpm2.DuplicateResponse) tpm2.RC {
	o := t.object(in.ObjectHandle)
	var parent *object
	if in.NewParentHandle != tpm2.RHNull {
		parent = t.object(in.NewParentHandle)
	}
	sym := &in.SymmetricAlg
	switch {
	case o.seq != nil:
		return tpm2.RCType.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.FixedParent):
		return tpm2.RCAttributes.Handle(1)
	case o.pub.NameAlg == tpm2.AlgNull:
		return tpm2.RCType.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.EncryptedDuplication) && sym.Algorithm == tpm2.AlgNull:
		return tpm2.RCSymmetric.Param(2)
	case o.pub.ObjectAttributes.Has(tpm2.EncryptedDuplication) && parent == nil:
		return tpm2.RCHierarchy.Handle(2)
	case parent != nil && !isAsymmetricStorage(parent):
		return tpm2.RCType.Handle(2)
	}
	key, rc := t.innerKey(sym, in.EncryptionKeyIn)
	if rc != tpm2.RCSuccess {
		return rc
	}
	blob := sensitiveBytes(o.sens)
	if key != nil {
		blob = innerWrap(o, key)
		if len(in.EncryptionKeyIn) == 0 {
			out.EncryptionKeyOut = key
		}
	}
	if parent != nil {
		seed, secret, rc := t.encryptSecret(parent, "DUPLICATE")
		if rc != tpm2.RCSuccess {
			return rc.Handle(2)
		}
		blob = seedWrap(parent, seed, o.name).wrap(&t.rng, blob)
		out.OutSymSeed = secret
	}
	out.Duplicate = blob
	return tpm2.RCSuccess
}

// innerKey settles the key of the inner wrap: the caller's, a fresh one, or none.
func (t *TPM) innerKey(sym *tpm2.TPMTSymDefObject, given []byte) ([]byte, tpm2.RC) {
	if sym.Algorithm == tpm2.AlgNull {
		if len(given) != 0 {
			return nil, tpm2.RCSize.Param(1)
		}
		return nil, tpm2.RCSuccess
	}
	n := int(sym.KeyBits.AES) / 8
	switch {
	case !implementsAES(sym.KeyBits.AES):
		return nil, tpm2.RCValue.Param(2)
	case sym.Mode.AES != tpm2.AlgCFB:
		return nil, tpm2.RCMode.Param(2)
	case len(given) == 0:
		return t.rng.bytes(n), tpm2.RCSuccess
	case len(given) != n:
		return nil, tpm2.RCSize.Param(1)
	}
	return given, tpm2.RCSuccess
}

// rewrap is TPM2_Rewrap (Part 3, 13.2).
func (t *TPM) rewrap(_ *call, in *tpm2.Rewrap, out *tpm2.RewrapResponse) tpm2.RC {
	if (len(in.InSymSeed) == 0) != (in.OldParent == tpm2.RHNull) {
		return tpm2.RCHandle.Handle(1)
	}
	blob := in.InDuplicate
	if in.OldParent != tpm2.RHNull {
		old := t.object(in.OldParent)
		if !isAsymmetricStorage(old) || old.sens == nil {
			return tpm2.RCType.Handle(1)
		}
		seed, rc := old.decryptSecret("DUPLICATE", in.InSymSeed)
		if rc != tpm2.RCSuccess {
			return tpm2.RCValue.Param(3)
		}
		if blob, rc = seedWrap(old, seed, in.Name).unwrap(blob); rc != tpm2.RCSuccess {
			return rc.Param(1)
		}
	}
	out.OutDuplicate = blob
	if in.NewParent != tpm2.RHNull {
		parent := t.object(in.NewParent)
		if !isAsymmetricStorage(parent) {
			return tpm2.RCType.Handle(2)
		}
		seed, secret, rc := t.encryptSecret(parent, "DUPLICATE")
		if rc != tpm2.RCSuccess {
			return rc.Handle(2)
		}
		out.OutDuplicate = seedWrap(parent, seed, in.Name).wrap(&t.rng, bytes.Clone(blob))
		out.OutSymSeed = secret
	}
	return tpm2.RCSuccess
}

// importObject is TPM2_Import (Part 3, 13.3).
func (t *TPM) importObject(_ *call, in *tpm2.Import, out *tpm2.ImportResponse) tpm2.RC {
	parent := t.object(in.ParentHandle)
	pub := &in.ObjectPublic
	sym := &in.SymmetricAlg
	switch {
	case childCheck(parent) != tpm2.RCSuccess:
		return tpm2.RCType.Handle(1)
	case pub.ObjectAttributes&(tpm2.FixedTPM|tpm2.FixedParent) != 0:
		return tpm2.RCAttributes.Param(2)
	case sym.Algorithm == tpm2.AlgNull && len(in.EncryptionKey) != 0:
		return tpm2.RCSize.Param(1)
	case sym.Algorithm == tpm2.AlgNull && pub.ObjectAttributes.Has(tpm2.EncryptedDuplication):
		return tpm2.RCAttributes.Param(1)
	case sym.Algorithm != tpm2.AlgNull && !implementsAES(sym.KeyBits.AES):
		return tpm2.RCValue.Param(5)
	case sym.Algorithm != tpm2.AlgNull && len(in.EncryptionKey) != int(sym.KeyBits.AES)/8:
		return tpm2.RCSize.Param(1)
	}
	blob := in.Duplicate
	name := crypt.ObjectName(pub)
	if len(in.InSymSeed) != 0 {
		if !isAsymmetricStorage(parent) {
			return tpm2.RCType.Handle(1)
		}
		seed, rc := parent.decryptSecret("DUPLICATE", in.InSymSeed)
		if rc != tpm2.RCSuccess {
			return rc.Param(4)
		}
		if blob, rc = seedWrap(parent, seed, name).unwrap(blob); rc != tpm2.RCSuccess {
			return rc.Param(3)
		}
	} else if pub.ObjectAttributes.Has(tpm2.EncryptedDuplication) {
		return tpm2.RCAttributes.Param(2)
	}
	if sym.Algorithm != tpm2.AlgNull {
		var rc tpm2.RC
		if blob, rc = innerUnwrap(pub.NameAlg, name, in.EncryptionKey, blob); rc != tpm2.RCSuccess {
			return rc.Param(3)
		}
	}
	sens, rc := parseSensitive(blob)
	if rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	if rc := checkPublic(pub, parent); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	o := newObject(*pub, sens, parent.hierarchy, parent)
	if rc := checkBinding(o); rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	out.OutPrivate = t.private(parent, o)
	return tpm2.RCSuccess
}
