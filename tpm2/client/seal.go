package client

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

func sealable(data []byte) error {
	if len(data) == 0 || len(data) > maxSealed {
		return fmt.Errorf("a TPM seals 1 to %d octets, not %d; seal a key and encrypt the data with that", maxSealed, len(data))
	}
	return nil
}

// Seal makes a data object under a parent. policy is the digest of a [Policy],
// nil to have it open by its authValue.
func (c *Client) Seal(parent Auth, data, policy []byte, auth AuthValue, extra ...Auth) (*Blob, error) {
	if err := sealable(data); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
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
