package modsig_test

import (
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// TestSymbolVersions: CONFIG_MODVERSIONS lets in what another build made, and
// refuses it for the symbols that have changed, in the order of its symbol table.
// The words are Linux 6.12's for the dummy module of another flavour.
func TestSymbolVersions(t *testing.T) {
	f := fixtures(t)
	symbol := func(name string, crc uint32) modsig.SymbolVersion { return modsig.SymbolVersion{Name: name, CRC: crc} }
	learn := func(k *modsig.Kernel, symbols ...modsig.SymbolVersion) {
		own, err := modsig.ReadELF(variants.ELF("own", release+" SMP ", symbols...))
		if err != nil {
			t.Fatal(err)
		}
		k.Learn(own)
	}
	module := variants.ELF("dummy", release+" SMP ", symbol("eth_mac_addr", 1), symbol("unheard_of", 9), symbol("module_layout", 7), symbol("consume_skb", 2), symbol("printk", 3))
	signed, err := modsig.Sign(module, f.build.Key, f.build.Cert, modsig.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		versions bool
		own      []modsig.SymbolVersion
		file     []byte
		errno    string
		message  []string
	}{
		{"the same", true, []modsig.SymbolVersion{symbol("consume_skb", 2), symbol("eth_mac_addr", 1), symbol("module_layout", 7)}, signed, "", nil},
		{"two have changed", true, []modsig.SymbolVersion{symbol("consume_skb", 5), symbol("eth_mac_addr", 5), symbol("module_layout", 7)}, signed, "EINVAL", []string{
			"dummy: disagrees about version of symbol eth_mac_addr", "dummy: Unknown symbol eth_mac_addr (err -22)",
			"dummy: disagrees about version of symbol consume_skb", "dummy: Unknown symbol consume_skb (err -22)"}},
		{"one has changed, unsigned", true, []modsig.SymbolVersion{symbol("printk", 5), symbol("module_layout", 7)}, module, "EINVAL", []string{
			"dummy: module verification failed: signature and/or required key missing - tainting kernel",
			"dummy: disagrees about version of symbol printk", "dummy: Unknown symbol printk (err -22)"}},
		{"the layout has changed", true, []modsig.SymbolVersion{symbol("printk", 5), symbol("module_layout", 8)}, signed, "ENOEXEC", []string{
			"dummy: disagrees about version of symbol module_layout"}},
		{"a kernel that does not look", false, []modsig.SymbolVersion{symbol("printk", 5), symbol("module_layout", 7)}, signed, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			features := modsig.AssumeFeatures(nil)
			features.Versions = c.versions
			k := modsig.NewKernel(release, features, variants.Certificates(f.build), nil)
			learn(k, c.own...)
			got := modsig.Check(c.file, k, modsig.Options{Name: "dummy.ko"})
			o := got.Predict(modsig.Off)
			if o.Errno != c.errno || o.Loads != (c.errno == "") || o.Message != strings.Join(c.message, "\n") {
				t.Errorf("got %+v, want errno %q and %q", o, c.errno, c.message)
			}
			named := false
			for _, f := range got.Findings {
				named = named || f.Code == "MODULE_SYMBOL_VERSION"
			}
			if want := c.errno != ""; named != want {
				t.Errorf("MODULE_SYMBOL_VERSION: %t, want %t", named, want)
			}
		})
	}
}
