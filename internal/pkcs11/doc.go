// Package pkcs11 signs with keys behind PKCS#11: in an HSM, a smart card, a
// token in software. It speaks p11-kit's remote protocol over a pipe to "p11-kit
// remote", a program of the distribution that loads the vendor's library. So this
// program stays static and without cgo, and a library that crashes takes
// another process with it.
//
// It finds a key by its URI (RFC 7512) and gives a crypto.Signer. It makes no
// keys, reads no PIN from anywhere, and starts no process: the caller brings
// the pipe.
//
// Begin with [ParseURI] and [Open]. "PKCS#11" in comments is OASIS PKCS #11
// version 2.40; p11-kit's messages are of its protocol version 0, which all
// its versions speak.
package pkcs11
