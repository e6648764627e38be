package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/pkcs11"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// openPKCS11 finds a key by its URI. The library that knows the token is loaded
// by "p11-kit remote", another process, so that this program needs no cgo.
func openPKCS11(ctx context.Context, a *app, name string, public crypto.PublicKey) (crypto.Signer, func(), error) {
	u, err := pkcs11.ParseURI(name)
	if errors.Is(err, pkcs11.ErrPINInURI) {
		return nil, nil, withHint(err, "%s", a.say("put it in a file of mode 0600: …?pin-source=file:/PATH", "请写入权限为 0600 的文件：…?pin-source=file:/路径"))
	}
	if err != nil {
		return nil, nil, err
	}
	what := u.ModulePath
	if what == "" {
		what = u.TokenURI()
	}
	program, err := exec.LookPath("p11-kit")
	if err != nil {
		return nil, nil, withHint(errors.New("keys behind PKCS#11 need p11-kit, which loads the token's library"), "apt-get install p11-kit")
	}
	p11 := exec.CommandContext(ctx, program, "remote", what)
	for _, v := range os.Environ() { // the PIN is not for the library's environment
		if !strings.HasPrefix(v, "KBUILD_SIGN_PIN=") {
			p11.Env = append(p11.Env, v)
		}
	}
	p11.Stderr = a.err // its words about a library that does not load
	p11.WaitDelay = time.Second
	in, err := p11.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := p11.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := p11.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting p11-kit: %w", err)
	}
	end := func() {
		in.Close()
		_ = p11.Wait()
	}
	key, err := pkcs11.Open(struct {
		io.Reader
		io.Writer
	}{out, in}, u, func(token string) (secret.Bytes, error) { return a.readPIN(u.PINSource, fmt.Sprintf("%q", token)) }, public)
	if err != nil {
		end()
		return nil, nil, withHintFor(err, a.pkcs11Hint(err))
	}
	return key, func() {
		_ = key.Close()
		end()
	}, nil
}

func (a *app) pkcs11Hint(err error) string {
	switch {
	case errors.Is(err, pkcs11.PINIncorrect):
		return a.say("the PIN is wrong; most tokens lock themselves after a few tries", "PIN 错误；多数令牌在数次失败后会锁定")
	case errors.Is(err, pkcs11.PINLocked):
		return a.say("the token has locked itself after wrong PINs: its security officer can unlock it", "令牌因多次输入错误 PIN 而锁定：由安全管理员解锁")
	case errors.Is(err, pkcs11.ErrNoToken), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return a.say("p11-kit list-modules shows the tokens; a library that it does not know: …?module-path=/PATH.so", "p11-kit list-modules 可列出令牌；未注册的库请用：…?module-path=/路径.so")
	case errors.Is(err, pkcs11.ErrManyTokens):
		return a.say("add ;serial=… from p11-kit list-modules", "请加上 ;serial=…（见 p11-kit list-modules）")
	case errors.Is(err, pkcs11.ErrNoKey):
		return a.say("pkcs11-tool --login --list-objects --type privkey shows the keys; object= is the label, id= the identifier", "pkcs11-tool --login --list-objects --type privkey 可列出密钥；object= 为标签，id= 为标识")
	case errors.Is(err, pkcs11.ErrManyKeys):
		return a.say("add one of these to the URI", "请在 URI 中加上其中之一")
	}
	return ""
}

// withHintFor is withHint, unless there is nothing to say.
func withHintFor(err error, hint string) error {
	if hint == "" {
		return err
	}
	return withHint(err, "%s", hint)
}
