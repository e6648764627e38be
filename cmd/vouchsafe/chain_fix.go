package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
)

func newChainFixCommand(a *app) *cobra.Command {
	f := &chainFlags{}
	x := &fixer{a: a, f: f}
	cmd := &cobra.Command{
		Use:   "fix FILE|HOST:PORT -o OUT",
		Short: "Write the chain as servers want it: leaf first, intermediates after it, no root",
		Long: `Writes the leaf, then its intermediates, without the root, as canonical PEM, and
checks the result before it is written. What does not verify is not written.

--in-place replaces FILE itself and keeps the old one as FILE.bak. --for java
writes PKCS #12, or JKS for Java before 8u301 when OUT ends in .jks.`,
		Example: `  vouchsafe chain fix chain.pem -o fixed.pem --intermediates pool/
  vouchsafe chain fix chain.p7b -o fullchain.pem --fetch --for nginx
  vouchsafe chain fix www.example.org:443 -o fullchain.pem --fetch`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return x.run(cmd.Context(), args[0])
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&x.out, "out", "o", "", "file to write; - for standard output")
	cmd.Flags().BoolVar(&x.inPlace, "in-place", false, "replace FILE and keep the old one as FILE.bak")
	cmd.Flags().BoolVar(&f.fetch, "fetch", false, "fetch missing intermediates from the addresses in the certificates (AIA)")
	cmd.Flags().StringVar(&f.starttls, "starttls", "", "begin TLS inside smtp, imap, pop3, ftp, xmpp, postgres, mysql or ldap")
	cmd.Flags().StringVar(&x.server, "for", "", "also print the settings for nginx, apache, haproxy, iis or java, and write what it reads")
	cmd.Flags().StringVar(&x.config, "config", "", "with --for: an existing configuration file to check")
	return cmd
}

type fixer struct {
	a                   *app
	f                   *chainFlags
	out, server, config string
	inPlace             bool
	leaf                *chain.Cert // of the repaired chain
}

func (x *fixer) run(ctx context.Context, in string) error {
	in = fromURL(in)
	switch {
	case x.inPlace && looksRemote(in):
		return withHint(usageError{errors.New("what a server sends is not replaced from here")}, "-o OUT, then put OUT where the server reads its chain")
	case x.out == "" && !x.inPlace:
		return usageError{errors.New("where to write is missing: -o OUT, or --in-place")}
	case x.out != "" && x.inPlace:
		return usageError{errors.New("-o and --in-place exclude each other")}
	case x.inPlace && in == "-":
		return usageError{errors.New("standard input cannot be replaced: use -o OUT")}
	case x.config != "" && x.server == "":
		return usageError{errors.New("--config needs --for")}
	}
	target, err := targetFor(x.server)
	if err != nil {
		return err
	}
	o, err := x.f.options()
	if err != nil {
		return err
	}
	data, err := x.read(ctx, in, &o)
	if err != nil {
		return err
	}
	if err := x.guard(in); err != nil {
		return err
	}
	r, o, err := x.f.check(ctx, in, data, o)
	if err != nil {
		return err
	}
	fixed, err := chain.Fix(r, o)
	if err != nil {
		return x.refuse(r, err)
	}
	x.leaf = r.Repair.Certs()[0]
	if target != nil {
		if fixed, err = target.pack(x, r, data, fixed, o); err != nil {
			return err
		}
	}
	if x.inPlace && bytes.Equal(fixed, data) {
		fmt.Fprintf(x.a.err, x.a.say("%s: nothing to mend, left as it is\n", "%s：无需修复，保持原样\n"), in)
		if target == nil {
			return nil
		}
		return x.settings(target, in, o)
	}
	if err := x.write(in, fixed, target != nil && target.secret); err != nil {
		return err
	}
	return x.tell(in, r, target, o)
}

// read reads what is to be mended: a file, or what a server sends.
func (x *fixer) read(ctx context.Context, in string, o *chain.Options) ([]byte, error) {
	if !looksRemote(in) {
		return x.a.readInput(in)
	}
	_, main, err := x.f.look(ctx, in, o)
	if err != nil {
		return nil, err
	}
	return main.PEM(), nil
}

// guard refuses to overwrite what is being mended.
func (x *fixer) guard(in string) error {
	if x.inPlace || x.out == "-" || in == "-" {
		return nil
	}
	a, err1 := os.Stat(in)
	b, err2 := os.Stat(x.out)
	if err1 == nil && err2 == nil && os.SameFile(a, b) {
		return withHint(fmt.Errorf("writing %s: it is the file to be mended", x.out), "vouchsafe chain fix %s --in-place, which keeps a copy", in)
	}
	return nil
}

// refuse says why nothing was written, and what would help.
func (x *fixer) refuse(r *chain.Report, err error) error {
	var no *chain.CannotRepair
	if !errors.As(err, &no) {
		return err
	}
	r = r.In(x.a.dataLang())
	if x.a.json {
		if err := x.a.printJSON(r); err != nil {
			return err
		}
	}
	for _, f := range r.Findings {
		if f.Severity == "error" {
			fmt.Fprintf(x.a.err, "%s%s: %s\n  %s\n", f.Code, where(x.a, f.Place), visible(f.Meaning), visible(x.a.words(f.Evidence)))
		}
	}
	hint := x.a.say("vouchsafe chain check tells everything about this file", "用 vouchsafe chain check 查看此文件的全部问题")
	for _, f := range r.Findings {
		if slices.Contains(no.Missing, f.Code) {
			hint = f.Remedy
			break
		}
	}
	return withHint(fmt.Errorf(x.a.say("nothing was written: %s", "未写入任何内容：%s"), strings.Join(no.Missing, ", ")), "%s", visible(hint))
}

// write puts the result where it belongs, all of it or nothing.
func (x *fixer) write(in string, fixed []byte, secret bool) error {
	mode := fs.FileMode(0o644)
	if secret {
		mode = 0o600
	}
	out := x.out
	if out == "-" {
		_, err := x.a.out.Write(fixed)
		return err
	}
	if x.inPlace {
		out = in
		st, err := os.Stat(in)
		if err != nil {
			return err
		}
		mode = st.Mode().Perm()
		if err := keepCopy(in, mode); err != nil {
			return fmt.Errorf("keeping a copy of %s: %w", in, err)
		}
	}
	return writeAtomic(out, fixed, mode)
}

// keepCopy copies a file to FILE.bak, or FILE.bak.1 and on when there is one already.
func keepCopy(path string, mode fs.FileMode) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for n := 0; n < 1000; n++ {
		name := path + ".bak"
		if n > 0 {
			name = fmt.Sprintf("%s.bak.%d", path, n)
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Sync(), f.Close())
	}
	return errors.New("there are a thousand copies already")
}

// writeAtomic writes beside path, syncs, and renames: a crash leaves the old
// file or the new one.
func writeAtomic(path string, data []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // replace what a link points to, as certbot's live/ has them
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".vouchsafe-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing once it is renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// tell says what was mended.
func (x *fixer) tell(in string, r *chain.Report, target *serverTarget, o chain.Options) error {
	if x.a.json && x.out != "-" {
		if err := x.a.printJSON(r.In(x.a.dataLang())); err != nil {
			return err
		}
	}
	out := x.out
	if x.inPlace {
		out = in
	}
	if codes := r.Codes(); len(codes) > 0 {
		fmt.Fprintf(x.a.err, "%s%s\n", x.a.say("mended: ", "已修复："), strings.Join(codes, ", "))
	}
	if out != "-" {
		fmt.Fprintf(x.a.err, x.a.say("%s: %s, leaf first, checked\n", "%s：%s，叶证书在前，已验证\n"), out, x.a.count(len(r.Repair.Chain), "certificate", "个证书"))
	}
	if r.File().HasPrivateKey() && (target == nil || !target.secret) {
		fmt.Fprintln(x.a.err, x.a.say("the private key in it was left out: keep it in a file of its own, mode 0600", "其中的私钥未写入：请单独保存，权限 0600"))
	}
	if target == nil {
		return nil
	}
	return x.settings(target, out, o)
}
