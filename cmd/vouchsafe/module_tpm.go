package main

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/vouchsafe/vouchsafe/internal/tpmkey"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// tpmKeyName is "tpm:0x81000001?device=…&pin-source=file:…", or a path to a TSS2
// PRIVATE KEY in its place.
type tpmKeyName struct {
	key, device, pinSource string
}

func parseTPMKeyName(name string) (tpmKeyName, error) {
	key, query, _ := strings.Cut(strings.TrimPrefix(name, "tpm:"), "?")
	n := tpmKeyName{key: key, device: "/dev/tpmrm0"}
	if d := os.Getenv("VOUCHSAFE_TPM"); d != "" {
		n.device = d
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return n, usageError{fmt.Errorf("reading --key %s: %w", name, err)}
	}
	for k, v := range values {
		switch {
		case k == "device" && len(v) == 1:
			n.device = v[0]
		case k == "pin-source" && len(v) == 1:
			n.pinSource = v[0]
		default:
			return n, usageError{fmt.Errorf("reading --key %s: %.32q is not understood: device, pin-source", name, k)}
		}
	}
	if key == "" {
		return n, usageError{errors.New("--key tpm: wants a persistent handle (tpm:0x81000001) or a TSS2 PRIVATE KEY file (tpm:key.pem)")}
	}
	return n, nil
}

// openTPMKey finds a key in a TPM: a persistent one, or one whose file only that TPM can open.
func openTPMKey(a *app, name string) (crypto.Signer, func(), error) {
	n, err := parseTPMKeyName(name)
	if err != nil {
		return nil, nil, err
	}
	handle, err := strconv.ParseUint(n.key, 0, 32)
	byHandle := err == nil
	var file *tpmkey.File
	if byHandle && handle>>24 != 0x81 {
		return nil, nil, usageError{fmt.Errorf("0x%x is no persistent handle: those are 0x81000000 to 0x81FFFFFF", handle)}
	}
	if !byHandle {
		text, err := readPrivate(a, n.key, 64<<10)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the key: %w", err)
		}
		if file, err = tpmkey.Parse(text); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", n.key, err)
		}
	}
	c, err := client.Open(n.device)
	if err != nil {
		return nil, nil, withHint(err, "%s", a.say("another TPM: tpm:…?device=unix:/PATH, tcp:HOST:PORT or /dev/…", "使用其他 TPM：tpm:…?device=unix:/路径、tcp:主机:端口 或 /dev/…"))
	}
	var auth client.AuthValue
	if n.pinSource != "" || file != nil && !file.EmptyAuth || os.Getenv("VOUCHSAFE_PIN_FILE") != "" {
		pin, err := a.readPIN(n.pinSource, fmt.Sprintf("%q", n.key))
		if err != nil {
			c.Close()
			return nil, nil, err
		}
		auth = client.Secret(pin.Reveal())
		pin.Erase()
	}
	var key *client.Key
	end := func() { c.Close() }
	if byHandle {
		key, err = c.Key(tpm2.Handle(handle), auth)
	} else if key, err = file.Load(c, auth); err == nil {
		end = func() {
			_ = c.Flush(key.Handle)
			c.Close()
		}
	}
	if err != nil {
		c.Close()
		var ce *client.CommandError
		if byHandle && errors.As(err, &ce) {
			return nil, nil, withHint(fmt.Errorf("finding the key at %s: %w", n.key, err), "tpm2_getcap handles-persistent")
		}
		if errors.As(err, &ce) {
			return nil, nil, withHint(err, "%s", a.say("the file opens only in the TPM that made it: is it another one, or was it cleared?", "该文件只能由生成它的 TPM 打开：是否为另一台 TPM，或 TPM 已被清除？"))
		}
		return nil, nil, err
	}
	if key.Public.ObjectAttributes.Has(tpm2.Restricted) || !key.Public.ObjectAttributes.Has(tpm2.SignEncrypt) {
		end()
		return nil, nil, withHint(fmt.Errorf("the key %s does not sign what comes from outside the TPM: it is restricted, or for other work", n.key), "tpm2_create -G rsa2048 -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign' …")
	}
	// An HMAC session, so that the password does not cross the bus.
	s, err := c.StartSession(client.SessionConfig{Type: tpm2.SEHMAC})
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("using the TPM: %w", err)
	}
	private, err := c.Private(key, func() (client.Auth, error) { return s.Auth(key.Entity), nil })
	if err != nil {
		s.Close()
		end()
		return nil, nil, err
	}
	return private, func() { s.Close(); end() }, nil
}
