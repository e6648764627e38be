package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// The root's private key lies beside the service as a box that only the
// recovery key opens, and the recovery key is kept away from the machine. So
// the root can be backed up with everything else and is still offline.

const offlineType = "VOUCHSAFE OFFLINE KEY"

// SealOffline encrypts an issuer's private key to the recovery key.
func SealOffline(recovery secret.Bytes, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("sealing the root CA's key: %w", err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: offlineType, Bytes: offlineBox(recovery).Seal(der, []byte(offlineType))}), nil
}

// OpenOffline decrypts what SealOffline made.
func OpenOffline(recovery secret.Bytes, text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != offlineType {
		return nil, fmt.Errorf("opening the root CA's key: this is no %s", offlineType)
	}
	der, err := offlineBox(recovery).Open(block.Bytes, []byte(offlineType))
	if err != nil {
		return nil, fmt.Errorf("opening the root CA's key: %w", err)
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("opening the root CA's key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P384() {
		return nil, errors.New("opening the root CA's key: it is no P-384 key")
	}
	return ec, nil
}

func offlineBox(recovery secret.Bytes) *xaes.Box {
	k := derive.Key(recovery, derive.OfflineKeyFile, xaes.KeySize, "root CA")
	defer k.Erase()
	return xaes.NewBox(k)
}
