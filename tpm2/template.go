package tpm2

// DecodeTemplate reads a public area up to its unique field, which in the
// template of a derived object is a TPMS_DERIVE (Part 2, 12.2.6).
func (v *TPMTPublic) DecodeTemplate(d *Decoder) {
	v.Type = d.tpmiAlgPublic(false)
	v.NameAlg = d.tpmiAlgHash(false)
	v.ObjectAttributes = ObjectAttributes(d.bits32(0xfff0f309))
	v.AuthPolicy = d.Buf(64)
	v.Parameters.decode(d, v.Type)
}
