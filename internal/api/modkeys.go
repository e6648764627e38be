package api

import (
	"context"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// ModuleKeys are the certificates for kernel modules; the keys stay in the service.
type ModuleKeys struct {
	CA      string `json:"ca" doc:"the CA, in PEM: what machines enrol"`
	Leaf    string `json:"leaf" doc:"the certificate of the key that signs now, in PEM"`
	Retired string `json:"retired,omitempty" doc:"those of former keys, in PEM, the newest first"`
	Rotated bool   `json:"rotated,omitempty"`
}

// NewModuleKeys asks for a CA and its first key.
type NewModuleKeys struct {
	Name string `json:"name" minLength:"1" maxLength:"64" doc:"whose CA it is: the console shows it at enrolment"`
	Kind string `json:"kind" enum:"rsa-2048,rsa-3072,rsa-4096,p384"`
}

// RotateModuleKey asks for the next key.
type RotateModuleKey struct {
	Kind  string `json:"kind,omitempty" enum:"rsa-2048,rsa-3072,rsa-4096,p384" doc:"default: as the one before"`
	IfDue bool   `json:"if_due,omitempty" doc:"only when less than a third of its time is left"`
}

// ModuleUse is one signature over a module.
type ModuleUse struct {
	File   string `json:"file" minLength:"1" maxLength:"4096" doc:"for the record"`
	Serial string `json:"serial" minLength:"1" maxLength:"64" doc:"of the signer's certificate"`
	Hash   string `json:"hash" enum:"sha256,sha384,sha512"`
	Digest []byte `json:"digest" maxLength:"128" doc:"of the module without its signature"`
	Only   bool   `json:"record_only,omitempty" doc:"the key is elsewhere: write the use down, sign nothing"`
}

// ModuleSignature is the bare signature.
type ModuleSignature struct {
	Signature []byte `json:"signature,omitempty"`
}

func (s *server) moduleKeys() {
	operation(s, "GET", "/v1/module-keys", "get-module-keys", "The certificates for kernel modules", operators, func(ctx context.Context, _ *none) (*body[ModuleKeys], error) {
		st, err := s.ModKeys.Show(ctx, caller(ctx).Tenant)
		if err != nil {
			return nil, err
		}
		return answer(ModuleKeysOf(st)), nil
	})
	operation(s, "POST", "/v1/module-keys", "make-module-keys", "Make a CA for kernel modules and its first signing key", operators, func(ctx context.Context, in *body[NewModuleKeys]) (*body[ModuleKeys], error) {
		st, err := s.ModKeys.Init(ctx, caller(ctx).Tenant, caller(ctx).String(), in.Body.Name, in.Body.Kind)
		if err != nil {
			return nil, err
		}
		return answer(ModuleKeysOf(st)), nil
	})
	operation(s, "POST", "/v1/module-keys/rotate", "rotate-module-key", "Make the next signing key", operators, func(ctx context.Context, in *body[RotateModuleKey]) (*body[ModuleKeys], error) {
		st, rotated, err := s.ModKeys.Rotate(ctx, caller(ctx).Tenant, caller(ctx).String(), in.Body.Kind, in.Body.IfDue)
		if err != nil {
			return nil, err
		}
		out := ModuleKeysOf(st)
		out.Rotated = rotated
		return answer(out), nil
	})
	operation(s, "POST", "/v1/module-keys/sign", "sign-module", "Sign the digest of a kernel module; or record that another key does", operators, func(ctx context.Context, in *body[ModuleUse]) (*body[ModuleSignature], error) {
		u := in.Body.Use()
		if u.Hash == 0 {
			return nil, enroll.Refusal{Code: enroll.RequestInvalid, Why: fmt.Sprintf("hash %.16q is not known", in.Body.Hash)}
		}
		var out ModuleSignature
		var err error
		if in.Body.Only {
			err = s.ModKeys.Record(ctx, caller(ctx).Tenant, caller(ctx).String(), u)
		} else {
			out.Signature, err = s.ModKeys.Sign(ctx, caller(ctx).Tenant, caller(ctx).String(), u)
		}
		if err != nil {
			return nil, err
		}
		return answer(out), nil
	})
}

// Use is the request as package modkeys has it.
func (u ModuleUse) Use() modkeys.Use {
	return modkeys.Use{File: u.File, Serial: u.Serial, Hash: modsig.HashByName(u.Hash), Digest: u.Digest}
}

// ModuleKeysOf is a state as it goes over the wire.
func ModuleKeysOf(s modkeys.State) ModuleKeys {
	return ModuleKeys{CA: PEM(s.CA), Leaf: PEM(s.Leaf), Retired: PEM(s.Retired...)}
}
