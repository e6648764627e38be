package client

import "github.com/vouchsafe/vouchsafe/tpm2"

// Seal makes a data object under a parent. policy is the digest of a [Policy],
// nil to have it open by its authValue.
func (c *Client) Seal(parent Auth, data, policy []byte, auth AuthValue, extra ...Auth) (*Blob, error) {
	b, _, err := c.Create(parent, NewObject{Public: SealTemplate(tpm2.AlgSHA256, policy), Auth: auth, Data: data}, extra...)
	return b, err
}

// Unseal opens a loaded data object. The data crosses the wire as it is, unless
// a session encrypts: pass [tpm2.SessionEncrypt].
func (c *Client) Unseal(item Auth, extra ...Auth) ([]byte, error) {
	var rsp tpm2.UnsealResponse
	err := c.Execute(&tpm2.Unseal{ItemHandle: entityOf(item).Handle}, &rsp, with(extra, item)...)
	return rsp.OutData, err
}
