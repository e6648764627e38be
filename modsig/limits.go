package modsig

// What a stranger's bytes may cost.
const (
	// MaxModule bounds a module, as stored and after decompression. The largest
	// in Debian 12 is amdgpu with 19 MB; one with debug data has 100 MB.
	MaxModule = 128 << 20
	// MaxSignature bounds the CMS. The kernel's own are 262 to 681 bytes; a
	// leaf and two intermediates with RSA-4096 keys make 6 KB.
	MaxSignature = 1 << 20
	// maxSigners and maxCertificates bound the work of one signature: every
	// signer costs a hash over the module.
	maxSigners      = 8
	maxCertificates = 16
	// maxSections bounds the walk over ELF section headers. Modules built
	// with -ffunction-sections have a few thousand.
	maxSections = 1 << 16
	// maxSymbols bounds the table of symbol versions; the largest driver takes 1,100.
	maxSymbols = 1 << 14
	// maxModinfo bounds the .modinfo section; aliases make it 100 KB in the worst driver.
	maxModinfo = 4 << 20
	// maxImage bounds a kernel after decompression, and maxPayload before:
	// Debian's are 50 to 70 MB and 7 to 13 MB, a debug kernel has 500 MB.
	maxImage   = 1 << 30
	maxPayload = 512 << 20
	// maxDictionary bounds what an xz or zstd stream may make us allocate:
	// the kernel's build uses 32 MiB for xz and 128 MiB for zstd.
	maxDictionary = 128 << 20
	// maxModuleDictionary does the same for a module; its build uses 2 MiB
	// (xz) and 8 MiB (zstd -19).
	maxModuleDictionary = 64 << 20
	// lz4Block is the block size of the legacy LZ4 frame, fixed by the format.
	lz4Block = 8 << 20
	// maxCertificate bounds one certificate in an image or a signature list.
	maxCertificate = 64 << 10
	// maxImageCertificates bounds the certificates one image may hold.
	maxImageCertificates = 256
	// maxCandidates bounds what looks like the head of a certificate and is
	// none: Debian's kernels have none to three such places.
	maxCandidates = 4096
	// maxRSA and minRSA bound RSA keys, as the kernel's own code does: a longer
	// one would cost hours to verify with.
	maxRSA, minRSA = 4096, 1024
	// maxSignatureList bounds an EFI signature database; dbx holds 20 KB.
	maxSignatureList = 4 << 20
	// maxLogLine bounds one line that Explain looks at; the kernel's are
	// at most 1 KB long.
	maxLogLine = 4096
)
