// Package client speaks TPM 2.0 to a TPM: it builds commands, authorizes them
// with passwords, HMAC sessions and policy sessions, encrypts parameters, and
// believes a response only after checking it. It works over any io.ReadWriter
// that carries one command and then one response: /dev/tpmrm0, /dev/tpm0, a
// socket of swtpm's data channel, or an engine in the same process.
//
// It is not a resource manager: transient objects and sessions are the
// caller's to flush. It keeps no keys and no state of the TPM, except the
// sessions that are open. "Part 1", "Part 2" and "Part 3" in comments are those
// of the TPM 2.0 Library specification, version 1.85,
// https://trustedcomputinggroup.org/resource/tpm-library-specification/.
//
// Begin with [Open] or [New], then [Client.Execute], over which everything else
// is a small function. An [Entity] is a handle with its Name and authValue;
// given to a command it authorizes by password. [Session.Auth] authorizes by
// session, and [Session.Extra] adds a session that only encrypts or audits:
//
//	tpm, err := client.Open("/dev/tpmrm0")
//	…
//	ek, err := tpm.CreatePrimary(client.Hierarchy(tpm2.RHEndorsement, nil), client.EKTemplate(client.EKP256))
//	s, err := tpm.StartSession(client.SessionConfig{Salt: ek})
//	defer s.Close()
//	b, err := tpm.GetRandom(32, s.Extra(tpm2.SessionEncrypt))
//
// What needs no TPM is a plain function: [Policy] calculates policy digests,
// [VerifyQuote] checks evidence, [MakeCredential] and [WrapForImport] encrypt to a TPM.
package client
