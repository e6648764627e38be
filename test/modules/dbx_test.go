package modules_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
	"github.com/vouchsafe/vouchsafe/test/modules/guest"
)

// TestKernelAgreesOnDBX: what the firmware's dbx and shim's MokListX forbid, asked
// of real kernels under Secure Boot. Entries of certificates by their hash are
// there as the specification has them, with a time behind the hash, which the
// kernels do not understand, and bare, which they do.
func TestKernelAgreesOnDBX(t *testing.T) {
	keys, err := variants.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() variants.Pair {
		t.Helper()
		key := keys.Leaf.Key // one key, several certificates
		c, err := modsig.NewLeaf("leaf", key.Public(), keys.CA.Cert, keys.CA.Key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return variants.Pair{Key: key, Cert: c}
	}
	good, byCert, byTBS, byHash, byShim, byBare := leaf(), leaf(), leaf(), leaf(), leaf(), leaf()
	bareCA := variants.Pair{Key: keys.Unknown.Key}
	if bareCA.Cert, err = modsig.NewCA("our other module CA", bareCA.Key, time.Now()); err != nil {
		t.Fatal(err)
	}
	tbs := func(c *x509.Certificate) []byte { s := sha256.Sum256(c.RawTBSCertificate); return s[:] }
	for _, k := range kernels(t) {
		t.Run(k.release, func(t *testing.T) {
			content := modsig.Split(k.genuine).Content
			sign := func(p variants.Pair, embed bool) []byte {
				t.Helper()
				o := modsig.SignOptions{Hash: crypto.SHA256}
				if embed {
					o.Embed = []*x509.Certificate{p.Cert}
				}
				b, err := modsig.Sign(content, p.Key, p.Cert, o)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			files := []variants.File{
				{Name: "01-genuine", Data: k.genuine},
				{Name: "02-leaf", Data: sign(good, true)},
				{Name: "03-leaf-certificate-in-dbx", Data: sign(byCert, true)},
				{Name: "04-leaf-tbs-in-dbx", Data: sign(byTBS, true)},
				{Name: "05-leaf-tbs-in-moklistx", Data: sign(byShim, true)},
				{Name: "06-content-hash-in-dbx", Data: sign(byHash, true)},
				{Name: "07-enrolled-certificate-in-dbx", Data: sign(keys.RSA, false)},
				{Name: "08-enrolled-tbs-in-dbx", Data: sign(keys.Expired, false)},
				{Name: "09-leaf-bare-tbs-in-dbx", Data: sign(byBare, true)},
				{Name: "10-enrolled-bare-tbs-in-dbx", Data: sign(bareCA, false)},
				{Name: "11-unsigned-hash-in-dbx", Data: content},
				{Name: "12-bad-signature-hash-in-dbx", Data: append([]byte(nil), sign(good, true)...)},
			}
			files[11].Data[len(content)-1000] ^= 1
			unsigned, bad := sha256.Sum256(files[10].Data), sha256.Sum256(files[11].Data)
			whole := sha256.Sum256(files[5].Data)
			inner := sha256.Sum256(content)
			dbx := bytes.Join([][]byte{
				guest.Entry(guest.EntryX509, byCert.Cert.Raw), guest.Entry(guest.EntryX509SHA256, tbs(byTBS.Cert)),
				guest.Entry(guest.EntrySHA256, whole[:]), guest.Entry(guest.EntrySHA256, inner[:]),
				guest.Entry(guest.EntrySHA256, unsigned[:]), guest.Entry(guest.EntrySHA256, bad[:]),
				guest.Entry(guest.EntryBare, tbs(byBare.Cert)), guest.Entry(guest.EntryBare, tbs(bareCA.Cert)),
				guest.Entry(guest.EntryX509, keys.RSA.Cert.Raw), guest.Entry(guest.EntryX509SHA256, tbs(keys.Expired.Cert)),
			}, nil)
			machine := guest.Machine{Kernel: k.image, Limit: 5 * time.Minute, SecBoot: secureBoot(t)}
			machine.SecBoot.DBX, machine.SecBoot.MOKX = dbx, guest.Entry(guest.EntryX509SHA256, tbs(byShim.Cert))
			for _, c := range append(keys.Enrolled(), bareCA.Cert) {
				machine.SecBoot.MOK = append(machine.SecBoot.MOK, c.Raw)
			}
			var in []guest.File
			for _, f := range files {
				in = append(in, guest.File{Name: f.Name + ".ko", Data: f.Data})
			}
			answers, _, err := guest.Run(t.Context(), t.TempDir(), machine, in)
			if err != nil {
				t.Fatal(err)
			}
			forbidden, err := modsig.ParseForbidden(machine.SecBoot.DBX, machine.SecBoot.MOKX)
			if err != nil {
				t.Fatal(err)
			}
			kernel := modsig.NewKernel(k.release, k.features, k.builtin, append(keys.Enrolled(), bareCA.Cert))
			kernel.Forbid(forbidden)
			var boot variants.Boot
			for i, f := range files {
				r := modsig.Check(f.Data, kernel, modsig.Options{Name: f.Name})
				want := r.Predict(modsig.Lockdown)
				got := variants.Answer{Errno: answers[i].Errno, Taint: answers[i].Taint, Log: variants.Normal(answers[i].Log)}
				if ok, log := boot.Agrees(want, got); !ok {
					t.Errorf("%s (%s):\n kernel    %+v\n predicted %+v with log %q", f.Name, r.Verdict, got, want, log)
				}
				codes := ""
				for _, f := range r.Findings {
					codes += " " + f.Code
				}
				t.Logf("%-34s %s%s %q", f.Name, r.Verdict, codes, got.Errno)
			}
		})
	}
}
