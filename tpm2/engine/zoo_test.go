package engine

import (
	crand "crypto/rand"
	"crypto/rsa"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The zoo: a TPM with something of every kind in it, and commands made at
// random that name its inhabitants where they do and do not belong. Nothing may
// crash it, and every answer must be well formed.

var zooRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(crand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func (b *bench) populate() (handles []tpm2.Handle) {
	add := func(h tpm2.Handle) { handles = append(handles, h) }
	keyed := func(attributes tpm2.ObjectAttributes, s tpm2.TPMTKeyedHashScheme) tpm2.TPMTPublic {
		return tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, ObjectAttributes: attributes,
			Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: s}}}
	}
	hmac := tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgHMAC}
	hmac.Details.HMAC.HashAlg = tpm2.AlgSHA256
	derive := tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgXOR}
	derive.Details.XOR = tpm2.TPMSSchemeXOR{HashAlg: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}
	cipher := tpm2.TPMTPublic{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256, ObjectAttributes: signAttributes | tpm2.Decrypt,
		Parameters: tpm2.TPMUPublicParms{SymDetail: tpm2.TPMSSymCipherParms{Sym: aes128}}}
	cipher.Parameters.SymDetail.Sym.Mode.AES = tpm2.AlgNull
	restricted := eccSigning(tpm2.ECCNISTP384, tpm2.AlgSHA384)
	restricted.ObjectAttributes |= tpm2.Restricted
	loose := eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256)
	loose.ObjectAttributes = tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.SignEncrypt | tpm2.Decrypt
	loose.Parameters.ECCDetail.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}
	for _, pub := range []tpm2.TPMTPublic{eccStorage(), keyed(signAttributes, hmac), keyed(storageAttributes, derive), cipher, restricted, loose} {
		add(b.primary(tpm2.RHOwner, pub).ObjectHandle)
	}
	add(b.child(handles[0], sealed(), nil, []byte("data")))
	b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: handles[0], PersistentHandle: 0x81000001}, nil)
	add(0x81000001)

	// From outside: public alone, and with a private part and without a Name.
	var pub tpm2.ReadPublicResponse
	b.ok(&tpm2.ReadPublic{ObjectHandle: handles[0]}, &pub)
	var ext tpm2.LoadExternalResponse
	b.ok(&tpm2.LoadExternal{Hierarchy: tpm2.RHOwner, InPublic: pub.OutPublic}, &ext)
	add(ext.ObjectHandle)
	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgNull} {
		p := rsaStorage()
		p.NameAlg, p.ObjectAttributes, p.Parameters.RSADetail.Symmetric = alg, tpm2.UserWithAuth|tpm2.Decrypt|tpm2.SignEncrypt, noSym
		p.Unique.RSA = zooRSA().N.Bytes()
		b.ok(&tpm2.LoadExternal{Hierarchy: tpm2.RHNull, InPublic: p, InPrivate: &tpm2.TPMTSensitive{SensitiveType: tpm2.AlgRSA,
			Sensitive: tpm2.TPMUSensitiveComposite{RSA: zooRSA().Primes[0].Bytes()}}}, &ext)
		add(ext.ObjectHandle)
	}
	for _, p := range []tpm2.TPMTPublic{keyed(tpm2.UserWithAuth|tpm2.SignEncrypt, hmac), keyed(tpm2.UserWithAuth, tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgNull})} {
		p.NameAlg = tpm2.AlgNull
		b.ok(&tpm2.LoadExternal{Hierarchy: tpm2.RHNull, InPublic: p,
			InPrivate: &tpm2.TPMTSensitive{SensitiveType: p.Type, Sensitive: tpm2.TPMUSensitiveComposite{Bits: []byte("key")}}}, &ext)
		add(ext.ObjectHandle)
	}

	var seq tpm2.HashSequenceStartResponse
	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgNull} {
		b.ok(&tpm2.HashSequenceStart{HashAlg: alg}, &seq)
		add(seq.SequenceHandle)
	}
	var mac tpm2.HMACStartResponse
	b.ok(&tpm2.HMACStart{Handle: handles[1], HashAlg: tpm2.AlgNull}, &mac)
	add(mac.SequenceHandle)

	for i, typ := range []tpm2.NVType{tpm2.NTOrdinary, tpm2.NTCounter, tpm2.NTBits, tpm2.NTExtend, tpm2.NTPinFail, tpm2.NTPinPass} {
		size := uint16(8)
		if typ == tpm2.NTExtend {
			size = 32
		}
		h := tpm2.Handle(0x1500000 + i)
		a := tpm2.NVAttributes(typ)<<4 | tpm2.NVAuthRead | tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVNoDA | tpm2.NVReadSTClear | tpm2.NVWriteSTClear
		b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.AlgSHA256, Attributes: a, DataSize: size}}, nil)
		add(h)
	}
	b.ok(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500000, Data: make([]byte, 8)}, nil)
	for _, kind := range []tpm2.SE{tpm2.SEHMAC, tpm2.SEPolicy, tpm2.SETrial} {
		add(b.session(kind))
	}
	return append(handles, 0, 16, 23, 24, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHLockout, tpm2.RHNull, tpm2.RSPW, 0x8000000f, 0x81000002, 0x0200003f, 0x1500020)
}

// A keeper fills structures with values that are often plausible.
type keeper struct {
	*rand.Rand
	handles []tpm2.Handle
	seen    [][]byte // what the TPM answered: Names, tickets, blobs
}

var zooAlgs = []tpm2.AlgID{0, tpm2.AlgNull, tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher,
	tpm2.AlgAES, tpm2.AlgCFB, tpm2.AlgCTR, tpm2.AlgECB, tpm2.AlgXOR, tpm2.AlgHMAC, tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgOAEP, tpm2.AlgRSAES,
	tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgKDF1SP800108, tpm2.AlgKDF2, tpm2.AlgMGF1, tpm2.AlgRSA}

func pick[T any](k *keeper, from ...T) T { return from[k.IntN(len(from))] }

func (k *keeper) fill(v reflect.Value, depth int) {
	if !v.CanSet() || depth > 8 {
		return
	}
	switch v.Interface().(type) {
	case tpm2.AlgID:
		v.SetUint(uint64(pick(k, zooAlgs...)))
		return
	case tpm2.Handle:
		v.SetUint(uint64(pick(k, k.handles...)))
		return
	case tpm2.CC:
		infos := tpm2.Infos()
		v.SetUint(uint64(infos[k.IntN(len(infos))].Code))
		return
	case tpm2.CAP:
		v.SetUint(uint64(k.IntN(14)))
		return
	case tpm2.EO:
		v.SetUint(uint64(k.IntN(12)))
		return
	case tpm2.YesNo:
		v.SetUint(uint64(k.IntN(2)))
		return
	case tpm2.ECCCurve:
		v.SetUint(uint64(3 + k.IntN(3)))
		return
	case tpm2.TPMTSigScheme:
		v.Set(reflect.ValueOf(tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}))
		if k.IntN(2) == 0 {
			s := tpm2.TPMTSigScheme{Scheme: pick(k, tpm2.AlgECDSA, tpm2.AlgHMAC, tpm2.AlgRSASSA, tpm2.AlgRSAPSS)}
			s.Details.Any.HashAlg = pick(k, bankAlgs...)
			v.Set(reflect.ValueOf(s))
		}
		return
	case tpm2.TPMTRSADecrypt:
		s := tpm2.TPMTRSADecrypt{Scheme: pick(k, tpm2.AlgNull, tpm2.AlgRSAES, tpm2.AlgOAEP)}
		s.Details.Any.HashAlg = pick(k, bankAlgs...)
		v.Set(reflect.ValueOf(s))
		return
	case tpm2.TPMTKDFScheme:
		s := tpm2.TPMTKDFScheme{Scheme: tpm2.AlgKDF2}
		s.Details.Any.HashAlg = pick(k, bankAlgs...)
		v.Set(reflect.ValueOf(s))
		return
	case tpm2.TPMTTkHashCheck:
		v.Set(reflect.ValueOf(tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}))
		return
	case tpm2.TPMTTkCreation:
		v.Set(reflect.ValueOf(tpm2.TPMTTkCreation{Tag: tpm2.STCreation, Hierarchy: pick(k, tpm2.RHNull, tpm2.RHOwner), Digest: make([]byte, 64)}))
		return
	case tpm2.TPMTTkVerified:
		v.Set(reflect.ValueOf(tpm2.TPMTTkVerified{Tag: tpm2.STVerified, Hierarchy: pick(k, tpm2.RHNull, tpm2.RHOwner), Digest: make([]byte, 64)}))
		return
	case tpm2.TPMTTkAuth:
		v.Set(reflect.ValueOf(tpm2.TPMTTkAuth{Tag: pick(k, tpm2.STAuthSigned, tpm2.STAuthSecret), Hierarchy: tpm2.RHOwner, Digest: make([]byte, 64)}))
		return
	case tpm2.TPMTSignature:
		s := tpm2.TPMTSignature{SigAlg: pick(k, tpm2.AlgECDSA, tpm2.AlgHMAC, tpm2.AlgRSASSA, tpm2.AlgRSAPSS)}
		h := pick(k, bankAlgs...)
		s.Signature.RSA = tpm2.TPMSSignatureRSA{Hash: h, Sig: make([]byte, pick(k, 0, 1, 256, 257))}
		s.Signature.ECC = tpm2.TPMSSignatureECC{Hash: h, SignatureR: make([]byte, k.IntN(40)), SignatureS: make([]byte, k.IntN(40))}
		s.Signature.HMAC = tpm2.TPMTHA{HashAlg: h, Digest: make([]byte, h.DigestSize())}
		v.Set(reflect.ValueOf(s))
		return
	case tpm2.TPMTSymDefObject:
		v.Set(reflect.ValueOf(pick(k, aes128, noSym)))
		return
	case tpm2.TPMTPublic:
		p := pick(k, eccStorage(), eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256), sealed())
		if k.IntN(2) == 0 {
			p.ObjectAttributes &^= tpm2.FixedTPM | tpm2.FixedParent
		}
		if k.IntN(2) == 0 {
			v.Set(reflect.ValueOf(p))
			return
		}
	case tpm2.TPMSPCRSelection:
		v.Set(reflect.ValueOf(tpm2.TPMSPCRSelection{Hash: pick(k, bankAlgs...), PCRSelect: []byte{byte(k.Uint32()), byte(k.Uint32()), pick[byte](k, 0, 0x80, 0xff)}}))
		return
	case tpm2.ST:
		v.SetUint(uint64(pick(k, tpm2.STVerified, tpm2.STCreation, tpm2.STHashCheck, tpm2.STAuthSigned, tpm2.STAuthSecret)))
		return
	case []byte:
		if len(k.seen) > 0 && k.IntN(3) == 0 {
			v.SetBytes(pick(k, k.seen...))
			return
		}
		b := make([]byte, pick(k, 0, 0, 0, 0, 1, 3, 4, 8, 16, 20, 32, 48, 64, 65, 128, 256, 1024))
		if k.IntN(2) == 0 {
			for i := range b {
				b[i] = byte(k.Uint32())
			}
		}
		v.SetBytes(b)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			k.fill(v.Field(i), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), k.IntN(4), 4))
		for i := range v.Len() {
			k.fill(v.Index(i), depth+1)
		}
	case reflect.Pointer:
		if k.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			k.fill(v.Elem(), depth+1)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := pick(k, 0, 1, 2, 3, 4, 8, 16, 32, 128, 256, uint64(1)<<k.IntN(64), k.Uint64())
		v.SetUint(n & (1<<v.Type().Bits() - 1))
	case reflect.Int8, reflect.Int32:
		v.SetInt(int64(int8(k.Uint32())))
	}
}

// authorize makes an authorization area: what the command wants, sometimes more or less.
func (k *keeper) authorize(info *tpm2.CommandInfo) [][]byte {
	n := info.Auths()
	if k.IntN(8) == 0 {
		n = k.IntN(4)
	}
	var out [][]byte
	for range n {
		h, attr := tpm2.RSPW, tpm2.ContinueSession
		if k.IntN(4) == 0 {
			h = pick(k, tpm2.HMACSessionFirst, tpm2.PolicySessionFirst+1, tpm2.PolicySessionFirst+2)
			attr = tpm2.SessionAttributes(pick(k, 1, 1, 1, 0, 0x81, 0x21, 0x41))
		}
		out = append(out, authEntry(h, nil, attr, nil))
	}
	return out
}

func TestZoo(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	infos := tpm2.Infos()

	for round := range rounds {
		b := newBench(t)
		k := &keeper{Rand: rand.New(rand.NewPCG(1, uint64(round)))}
		k.handles = b.populate()
		state, volatile := b.tpm.Permanent(), must(b.tpm.Volatile())
		for step := range 2000 {
			info := infos[k.IntN(len(infos))]
			cmd := info.NewCommand()
			k.fill(reflect.ValueOf(cmd).Elem(), 0)
			h := make([]tpm2.Handle, len(info.Handles))
			for i, x := range info.Handles {
				for range 40 { // one that is allowed here, mostly
					if h[i] = pick(k, k.handles...); x.Type.Allows(h[i], x.Null) {
						break
					}
				}
			}
			cmd.SetHandles(h)
			wire := encodeOrNil(cmd)
			if wire == nil {
				continue
			}
			if a := k.authorize(info); len(a) > 0 {
				wire = with(cmd, a...)
			}
			if slow(wire) || len(wire) > MaxCommandSize {
				continue
			}
			func() {
				defer func() {
					if r := recover(); r != nil {
						t.Fatalf("round %d, step %d: %T with %v: %x: panic: %v", round, step, cmd, h, wire, r)
					}
				}()
				out := b.tpm.Execute(uint8(k.IntN(5)), wire, nil)
				if checkResponse(t, wire, out) == tpm2.RCSuccess {
					k.remember(info, out)
				}
			}()
			if k.IntN(6) == 0 { // back to the full zoo
				b.tpm = must(PowerOn(b.config(), state))
				if err := b.tpm.Resume(volatile); err != nil {
					t.Fatal(err)
				}
			}
			if k.IntN(100) == 0 {
				b.now += time.Duration(k.IntN(3600)) * time.Second
			}
		}
	}
}

// remember keeps the buffers of a response for later commands.
func (k *keeper) remember(info *tpm2.CommandInfo, out []byte) {
	rsp := info.NewResponse()
	d := tpm2.NewDecoder(out)
	d.Bytes(headerSize)
	if h := rsp.HandleField(); h != nil {
		*h = tpm2.Handle(d.U32())
	}
	if out[1] == byte(tpm2.STSessions&0xff) {
		d = tpm2.NewDecoder(d.Bytes(int(d.U32())))
	}
	rsp.DecodeParameters(d)
	if d.RC() != tpm2.RCSuccess {
		return
	}
	v := reflect.ValueOf(rsp).Elem()
	for i := range v.NumField() {
		if b, ok := v.Field(i).Interface().([]byte); ok && len(k.seen) < 64 {
			k.seen = append(k.seen, b)
		}
	}
}

// encodeOrNil marshals a command, or returns nil when its values cannot be said on the wire.
func encodeOrNil(cmd tpm2.Command) (wire []byte) {
	defer func() {
		if recover() != nil {
			wire = nil
		}
	}()
	return marshal(cmd)
}
