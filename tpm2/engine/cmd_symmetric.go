package engine

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// encryptDecrypt is TPM2_EncryptDecrypt (Part 3, 15.2), kept for those who do not know the second.
func (t *TPM) encryptDecrypt(_ *call, in *tpm2.EncryptDecrypt, out *tpm2.EncryptDecryptResponse) tpm2.RC {
	var rc tpm2.RC
	out.OutData, out.IVOut, rc = t.cipher(in.KeyHandle, in.Decrypt == tpm2.Yes, in.Mode, in.IVIn, in.InData, [3]int{2, 3, 4})
	return rc
}

// encryptDecrypt2 is TPM2_EncryptDecrypt2 (Part 3, 15.3).
func (t *TPM) encryptDecrypt2(_ *call, in *tpm2.EncryptDecrypt2, out *tpm2.EncryptDecrypt2Response) tpm2.RC {
	var rc tpm2.RC
	out.OutData, out.IVOut, rc = t.cipher(in.KeyHandle, in.Decrypt == tpm2.Yes, in.Mode, in.IVIn, in.InData, [3]int{3, 4, 1})
	return rc
}

// cipher does the work of both; at has the parameter numbers of mode, IV and data.
func (t *TPM) cipher(h tpm2.Handle, decrypt bool, mode tpm2.AlgID, iv, data []byte, at [3]int) (res, next []byte, rc tpm2.RC) {
	o := t.object(h)
	switch {
	case o.pub.Type != tpm2.AlgSymCipher:
		return nil, nil, tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted),
		decrypt && !o.pub.ObjectAttributes.Has(tpm2.Decrypt), !decrypt && !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt):
		return nil, nil, tpm2.RCAttributes.Handle(1)
	}
	own := o.pub.Parameters.SymDetail.Sym.Mode.AES
	switch {
	case own == tpm2.AlgNull && mode == tpm2.AlgNull, own != tpm2.AlgNull && mode != tpm2.AlgNull && own != mode:
		return nil, nil, tpm2.RCMode.Param(at[0])
	case mode == tpm2.AlgNull:
		mode = own
	}
	wantIV := aes.BlockSize
	if mode == tpm2.AlgECB {
		wantIV = 0
	}
	switch {
	case len(iv) != wantIV:
		return nil, nil, tpm2.RCSize.Param(at[1])
	case (mode == tpm2.AlgECB || mode == tpm2.AlgCBC) && len(data)%aes.BlockSize != 0:
		return nil, nil, tpm2.RCSize.Param(at[2])
	}
	block, err := aes.NewCipher(o.sens.Sensitive.Sym)
	if err != nil {
		return nil, nil, tpm2.RCKey.Handle(1)
	}
	res, next = bytes.Clone(data), bytes.Clone(iv)
	switch mode {
	case tpm2.AlgCFB:
		if decrypt {
			next = crypt.CFBDecrypt(o.sens.Sensitive.Sym, iv, res)
		} else {
			next = crypt.CFBEncrypt(o.sens.Sensitive.Sym, iv, res)
		}
	case tpm2.AlgCBC:
		for i := 0; i < len(res); i += aes.BlockSize {
			b := res[i : i+aes.BlockSize]
			if decrypt {
				was := bytes.Clone(b)
				block.Decrypt(b, b)
				xor(b, next)
				next = was
			} else {
				xor(b, next)
				block.Encrypt(b, b)
				next = bytes.Clone(b)
			}
		}
	case tpm2.AlgECB:
		for i := 0; i < len(res); i += aes.BlockSize {
			b := res[i : i+aes.BlockSize]
			if decrypt {
				block.Decrypt(b, b)
			} else {
				block.Encrypt(b, b)
			}
		}
	case tpm2.AlgCTR:
		cipher.NewCTR(block, iv).XORKeyStream(res, res)
		for range (len(res) + aes.BlockSize - 1) / aes.BlockSize {
			increment(next)
		}
	case tpm2.AlgOFB:
		for i := 0; i < len(res); i += aes.BlockSize {
			block.Encrypt(next, next)
			xor(res[i:min(i+aes.BlockSize, len(res))], next)
		}
	}
	return res, next, tpm2.RCSuccess
}

func xor(b, with []byte) {
	for i := range b {
		b[i] ^= with[i]
	}
}

// increment adds one to a big-endian counter.
func increment(b []byte) {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return
		}
	}
}

// hashCommand is TPM2_Hash (Part 3, 15.4).
func (t *TPM) hashCommand(_ *call, in *tpm2.Hash, out *tpm2.HashResponse) tpm2.RC {
	out.OutHash = crypt.Digest(in.HashAlg, in.Data)
	out.Validation = t.hashCheck(in.Hierarchy, in.HashAlg, out.OutHash, !isGenerated(in.Data))
	return tpm2.RCSuccess
}

// isGenerated recognises data that begins as if the TPM had made it, which a
// restricted key must not sign (Part 2, 6.2).
func isGenerated(data []byte) bool {
	return len(data) >= 4 && bytes.Equal(data[:4], []byte{0xff, 0x54, 0x43, 0x47})
}

// hashCheck is the ticket that says a digest is safe to sign; a NULL ticket when it is not.
func (t *TPM) hashCheck(h tpm2.Handle, alg tpm2.AlgID, digest []byte, safe bool) tpm2.TPMTTkHashCheck {
	if !safe || h == tpm2.RHNull {
		return tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}
	}
	return tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: h,
		Digest: t.ticket(tpm2.STHashCheck, h, []byte{byte(alg >> 8), byte(alg)}, digest)}
}

// hmacScheme finds the hash of an HMAC key, which the caller may name when the key does not (Part 3, 15.5.1).
func hmacScheme(o *object, asked tpm2.AlgID) (tpm2.AlgID, tpm2.RC) {
	switch {
	case o.pub.Type != tpm2.AlgKeyedHash || o.seq != nil:
		return 0, tpm2.RCType.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted):
		return 0, tpm2.RCAttributes.Handle(1)
	case !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt):
		return 0, tpm2.RCKey.Handle(1)
	}
	own := tpm2.AlgNull
	if s := &o.pub.Parameters.KeyedHashDetail.Scheme; s.Scheme == tpm2.AlgHMAC {
		own = s.Details.HMAC.HashAlg
	}
	switch {
	case own == tpm2.AlgNull && asked == tpm2.AlgNull, own != tpm2.AlgNull && asked != tpm2.AlgNull && own != asked:
		return 0, tpm2.RCValue.Param(2)
	case own != tpm2.AlgNull:
		return own, tpm2.RCSuccess
	}
	return asked, tpm2.RCSuccess
}

// hmac is TPM2_HMAC (Part 3, 15.5).
func (t *TPM) hmac(_ *call, in *tpm2.HMAC, out *tpm2.HMACResponse) tpm2.RC {
	o := t.object(in.Handle)
	alg, rc := hmacScheme(o, in.HashAlg)
	if rc != tpm2.RCSuccess {
		return rc
	}
	out.OutHMAC = crypt.HMAC(alg, o.sens.Sensitive.Bits, in.Buffer)
	return tpm2.RCSuccess
}
