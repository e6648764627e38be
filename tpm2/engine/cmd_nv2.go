package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// nvDefineSpace2 is TPM2_NV_DefineSpace2 (Part 3, 31.17). External NV indexes,
// whose data would be kept elsewhere, are absent: only the ordinary type decodes.
func (t *TPM) nvDefineSpace2(c *call, in *tpm2.NVDefineSpace2, _ *tpm2.NVDefineSpace2Response) tpm2.RC {
	return t.nvDefineSpace(c, &tpm2.NVDefineSpace{AuthHandle: in.AuthHandle, Auth: in.Auth, PublicInfo: in.PublicInfo.PublicArea.NVIndex}, nil)
}

// nvReadPublic2 is TPM2_NV_ReadPublic2 (Part 3, 31.18). The Name is the one that
// TPM2_NV_ReadPublic gives.
func (t *TPM) nvReadPublic2(_ *call, in *tpm2.NVReadPublic2, out *tpm2.NVReadPublic2Response) tpm2.RC {
	x := t.index(in.NVIndex)
	out.NVPublic.HandleType, out.NVPublic.PublicArea.NVIndex = tpm2.HTNVIndex, x.pub
	out.NVName = x.name()
	return tpm2.RCSuccess
}
