package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// checkUserAuth trims an authValue and bounds it by nameAlg (Part 3, 12.1.1).
func checkUserAuth(auth []byte, alg tpm2.AlgID) ([]byte, tpm2.RC) {
	auth = crypt.Trim(auth)
	if len(auth) > alg.DigestSize() {
		return nil, tpm2.RCSize
	}
	return auth, tpm2.RCSuccess
}

// create is TPM2_Create (Part 3, 12.1).
func (t *TPM) create(c *call, in *tpm2.Create, out *tpm2.CreateResponse) tpm2.RC {
	parent := t.object(in.ParentHandle)
	if rc := childCheck(parent); rc != tpm2.RCSuccess {
		return rc.Handle(1)
	}
	pub := &in.InPublic
	if rc := checkCreation(pub, parent, len(in.InSensitive.Data)); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	auth, rc := checkUserAuth(in.InSensitive.UserAuth, pub.NameAlg)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	sens, rc := generate(pub, t.random(), auth, in.InSensitive.Data)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	o := newObject(*pub, sens, parent.hierarchy, parent)
	out.CreationData, out.CreationHash, out.CreationTicket = t.creation(o, parent, c.locality, in.OutsideInfo, in.CreationPCR)
	out.OutPrivate, out.OutPublic = t.private(parent, o), o.pub
	return tpm2.RCSuccess
}

// load is TPM2_Load (Part 3, 12.2).
func (t *TPM) load(_ *call, in *tpm2.Load, out *tpm2.LoadResponse) tpm2.RC {
	parent := t.object(in.ParentHandle)
	switch {
	case len(in.InPrivate) == 0:
		return tpm2.RCSize.Param(1)
	case childCheck(parent) != tpm2.RCSuccess:
		return tpm2.RCType.Handle(1)
	case !t.slotFree():
		return tpm2.RCObjectMemory
	}
	name := crypt.ObjectName(&in.InPublic)
	sens, rc := unprotect(parent, name, in.InPrivate)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	if rc := checkPublic(&in.InPublic, parent); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	o := newObject(in.InPublic, sens, parent.hierarchy, parent)
	if rc := checkBinding(o); rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	out.ObjectHandle, rc = t.addObject(o)
	out.Name = o.name
	return rc
}

// loadExternal is TPM2_LoadExternal (Part 3, 12.3).
func (t *TPM) loadExternal(_ *call, in *tpm2.LoadExternal, out *tpm2.LoadExternalResponse) tpm2.RC {
	pub := &in.InPublic
	switch {
	case !t.slotFree():
		return tpm2.RCObjectMemory
	case !t.hierarchyEnabled(in.Hierarchy):
		return tpm2.RCHierarchy.Param(3)
	case pub.NameAlg == tpm2.AlgNull && len(pub.AuthPolicy) != 0:
		return tpm2.RCSize.Param(2)
	}
	if in.InPrivate != nil {
		// With a private part it is nobody's but the caller's (Part 3, 12.3.1).
		if in.Hierarchy != tpm2.RHNull {
			return tpm2.RCHierarchy.Param(3)
		}
		if pub.ObjectAttributes&(tpm2.FixedTPM|tpm2.FixedParent|tpm2.Restricted) != 0 {
			return tpm2.RCAttributes.Param(2)
		}
	}
	// The parent it once had is unknown: one that is not fixedTPM is assumed for
	// a public area alone, so that any attributes another TPM gave it are let in.
	if rc := checkExternal(pub); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	o := newObject(*pub, in.InPrivate, in.Hierarchy, nil)
	o.external = true
	o.qn = o.name // nothing is known of where it stood
	if o.sens != nil {
		o.sens.AuthValue = crypt.Trim(o.sens.AuthValue)
		if rc := checkBinding(o); rc != tpm2.RCSuccess {
			return rc.Param(1)
		}
	} else if rc := checkPublicKey(pub); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	var rc tpm2.RC
	out.ObjectHandle, rc = t.addObject(o)
	out.Name = o.name
	return rc
}

// checkExternal is checkPublic for an object without a parent here.
func checkExternal(pub *tpm2.TPMTPublic) tpm2.RC {
	if rc := checkParameters(pub.Type, &pub.Parameters); rc != tpm2.RCSuccess {
		return rc
	}
	if n := len(pub.AuthPolicy); n != 0 && n != pub.NameAlg.DigestSize() {
		return tpm2.RCSize
	}
	a := pub.ObjectAttributes
	if a.Has(tpm2.SignEncrypt) == a.Has(tpm2.Decrypt) && (a.Has(tpm2.Restricted) || !a.Has(tpm2.Decrypt) && pub.Type != tpm2.AlgKeyedHash) {
		return tpm2.RCAttributes
	}
	return checkSchemes(pub, nil)
}

// readPublic is TPM2_ReadPublic (Part 3, 12.4).
func (t *TPM) readPublic(_ *call, in *tpm2.ReadPublic, out *tpm2.ReadPublicResponse) tpm2.RC {
	o := t.object(in.ObjectHandle)
	if o.seq != nil {
		return tpm2.RCSequence
	}
	out.OutPublic, out.Name, out.QualifiedName = o.pub, o.name, o.qn
	return tpm2.RCSuccess
}

// activateCredential is TPM2_ActivateCredential (Part 3, 12.5).
func (t *TPM) activateCredential(_ *call, in *tpm2.ActivateCredential, out *tpm2.ActivateCredentialResponse) tpm2.RC {
	o, key := t.object(in.ActivateHandle), t.object(in.KeyHandle)
	if !isAsymmetricStorage(key) || key.sens == nil {
		return tpm2.RCType.Handle(2)
	}
	seed, rc := key.decryptSecret("IDENTITY", in.Secret)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	plain, rc := seedWrap(key, seed, o.name).unwrap(in.CredentialBlob)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	d := tpm2.NewDecoder(plain)
	out.CertInfo = d.Buf(key.pub.NameAlg.DigestSize())
	if d.Done(); d.RC() != tpm2.RCSuccess {
		return d.RC().Param(1)
	}
	return tpm2.RCSuccess
}

// seedWrap is the outer wrap under a seed that was exchanged for it.
func seedWrap(key *object, seed, name []byte) outer {
	return outer{key.pub.NameAlg, seed, int(key.symmetric().KeyBits.AES), name, false}
}

func isAsymmetricStorage(o *object) bool {
	return o.isStorage() && (o.pub.Type == tpm2.AlgRSA || o.pub.Type == tpm2.AlgECC || o.pub.Type == tpm2.AlgMLKEM)
}

// makeCredential is TPM2_MakeCredential (Part 3, 12.6).
func (t *TPM) makeCredential(_ *call, in *tpm2.MakeCredential, out *tpm2.MakeCredentialResponse) tpm2.RC {
	key := t.object(in.Handle)
	switch {
	case !isAsymmetricStorage(key):
		return tpm2.RCType.Handle(1)
	case len(in.Credential) > key.pub.NameAlg.DigestSize():
		return tpm2.RCSize.Param(1)
	}
	seed, secret, rc := t.encryptSecret(key, "IDENTITY")
	if rc != tpm2.RCSuccess {
		return rc.Handle(1)
	}
	var e tpm2.Encoder
	e.Buf(in.Credential)
	out.CredentialBlob, out.Secret = seedWrap(key, seed, in.ObjectName).wrap(&t.rng, e.Out()), secret
	return tpm2.RCSuccess
}

// unseal is TPM2_Unseal (Part 3, 12.7).
func (t *TPM) unseal(_ *call, in *tpm2.Unseal, out *tpm2.UnsealResponse) tpm2.RC {
	o := t.object(in.ItemHandle)
	switch {
	case o.pub.Type != tpm2.AlgKeyedHash || o.seq != nil:
		return tpm2.RCType.Handle(1)
	case o.pub.ObjectAttributes&(tpm2.Decrypt|tpm2.SignEncrypt|tpm2.Restricted) != 0:
		return tpm2.RCAttributes.Handle(1)
	}
	out.OutData = o.sens.Sensitive.Bits
	return tpm2.RCSuccess
}

// objectChangeAuth is TPM2_ObjectChangeAuth (Part 3, 12.8).
func (t *TPM) objectChangeAuth(_ *call, in *tpm2.ObjectChangeAuth, out *tpm2.ObjectChangeAuthResponse) tpm2.RC {
	o, parent := t.object(in.ObjectHandle), t.object(in.ParentHandle)
	if o.seq != nil {
		return tpm2.RCType.Handle(2)
	}
	auth, rc := checkUserAuth(in.NewAuth, o.pub.NameAlg)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	if o.external || !isChildOf(o, parent) || childCheck(parent) != tpm2.RCSuccess {
		return tpm2.RCType.Handle(2)
	}
	changed := *o.sens
	changed.AuthValue = auth
	out.OutPrivate = parentWrap(parent, o.name).wrap(&t.rng, sensitiveBytes(&changed))
	return tpm2.RCSuccess
}

// isChildOf recognises a parent by the Qualified Name it gives (Part 1, 23.5).
func isChildOf(o, parent *object) bool {
	return parent.seq == nil && len(parent.qn) != 0 && bytesEqual(o.qn, qualify(o, parent.qn))
}

// createLoaded is TPM2_CreateLoaded (Part 3, 12.9): a primary, an ordinary or a derived object.
func (t *TPM) createLoaded(c *call, in *tpm2.CreateLoaded, out *tpm2.CreateLoadedResponse) tpm2.RC {
	if !t.slotFree() {
		return tpm2.RCObjectMemory
	}
	parent := t.object(in.ParentHandle) // nil for a hierarchy
	derive := parent != nil && parent.isDerivation()
	if parent != nil && !derive && childCheck(parent) != tpm2.RCSuccess || parent != nil && parent.sens == nil {
		return tpm2.RCType.Handle(1)
	}
	pub, label, rc := t.parseTemplate(in.InPublic, derive)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	auth, rc := checkUserAuth(in.InSensitive.UserAuth, pub.NameAlg)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	data := in.InSensitive.Data
	hierarchy := in.ParentHandle
	var from origin
	switch {
	case derive:
		if pub.Type == tpm2.AlgRSA || pub.Type == tpm2.AlgMLDSA || pub.Type == tpm2.AlgMLKEM {
			return tpm2.RCType.Param(2)
		}
		if pub.ObjectAttributes.Has(tpm2.SensitiveDataOrigin) {
			return tpm2.RCAttributes.Param(2)
		}
		if rc := checkPublic(pub, parent); rc != tpm2.RCSuccess {
			return rc.Param(2)
		}
		if from.octets, rc = derivedFrom(parent, label, data); rc != tpm2.RCSuccess {
			return rc.Param(1)
		}
		data, hierarchy = nil, parent.hierarchy
	case parent != nil:
		if rc := checkCreation(pub, parent, len(data)); rc != tpm2.RCSuccess {
			return rc.Param(2)
		}
		from, hierarchy = t.random(), parent.hierarchy
	default:
		if rc := checkCreation(pub, nil, len(data)); rc != tpm2.RCSuccess {
			return rc.Param(2)
		}
		from = t.primary(hierarchy, pub, data)
	}
	sens, rc := generate(pub, from, auth, data)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	o := newObject(*pub, sens, hierarchy, parent)
	if parent != nil && !derive {
		out.OutPrivate = t.private(parent, o)
	}
	out.OutPublic, out.Name = o.pub, o.name
	out.ObjectHandle, rc = t.addObject(o)
	return rc
}

// parseTemplate reads a TPM2B_TEMPLATE, whose unique field is a label and a
// context when an object is to be derived (Part 2, 12.2.6).
func (t *TPM) parseTemplate(b []byte, derive bool) (*tpm2.TPMTPublic, *tpm2.TPMSDerive, tpm2.RC) {
	d := tpm2.NewDecoder(b)
	d.Implements(t.implements, implementsCurve)
	pub := new(tpm2.TPMTPublic)
	if !derive {
		d.Decode(pub, false)
		d.Done()
		return pub, nil, d.RC()
	}
	label := new(tpm2.TPMSDerive)
	pub.DecodeTemplate(d)
	d.Decode(label, false)
	d.Done()
	return pub, label, d.RC()
}

// derivedFrom makes the deriver of an object from a derivation parent (Part 1,
// 25): KDFa over the parent's secret, with label and context from the template
// or, where that has none, from the sensitive data.
func derivedFrom(parent *object, template *tpm2.TPMSDerive, data []byte) (deriver, tpm2.RC) {
	use := *template
	if len(data) != 0 {
		var given tpm2.TPMSDerive
		if err := tpm2.Unmarshal(data, &given); err != nil {
			return nil, err.(tpm2.RC)
		}
		if len(use.Label) == 0 {
			use.Label = given.Label
		}
		if len(use.Context) == 0 {
			use.Context = given.Context
		}
	}
	alg := parent.pub.Parameters.KeyedHashDetail.Scheme.Details.XOR.HashAlg
	secret := parent.sens.Sensitive.Bits
	return derivedStreams(alg, secret, use.Label, use.Context), tpm2.RCSuccess
}
