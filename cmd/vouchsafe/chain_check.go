package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
)

func newChainCheckCommand(a *app) *cobra.Command {
	f := &chainFlags{}
	var sarif, clients bool
	var against string
	cmd := &cobra.Command{
		Use:   "check FILE|HOST:PORT …",
		Short: "Say everything that is wrong with a certificate file, or with a server's chain",
		Long: `Reads anything that people call a certificate file and names every fault in it,
root cause first, with its place. "-" is standard input.

Exit code: 0 nothing to mend, 3 there are findings, 1 an input could not be read.`,
		Example: `  vouchsafe chain check --name www.example.org --key key.pem fullchain.pem
  vouchsafe chain check --roots ca.pem --json *.pem
  vouchsafe chain check www.example.org:443 fullchain.pem
  vouchsafe chain check --starttls smtp mail.example.org:25`,
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			c := &checker{a: a, f: f, o: o, against: against, sarif: sarif, clients: clients}
			return c.run(cmd.Context(), args)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.fetch, "fetch", false, "fetch missing intermediates from the addresses in the certificates (AIA)")
	cmd.Flags().BoolVar(&sarif, "sarif", false, "print one SARIF 2.1.0 log, for code scanning")
	cmd.Flags().BoolVar(&clients, "clients", false, "also say which servers and clients fail with it, and because of what")
	cmd.Flags().StringVar(&f.starttls, "starttls", "", "begin TLS inside smtp, imap, pop3, ftp, xmpp, postgres, mysql or ldap")
	cmd.Flags().StringVar(&against, "against", "", "with HOST:PORT: the file that the server is meant to send (default: the first FILE)")
	return cmd
}

// checker checks inputs one after the other and keeps none.
type checker struct {
	a              *app
	f              *chainFlags
	o              chain.Options
	against        string
	sarif, clients bool

	log      []*chain.Report // only for SARIF, which is one document
	findings bool
	failed   error
}

func (c *checker) run(ctx context.Context, args []string) error {
	args = slices.Clone(args)
	for i := range args {
		args[i] = fromURL(args[i])
	}
	// A file and a server together: the server is meant to send the file.
	if i := slices.IndexFunc(args, func(a string) bool { return !looksRemote(a) && a != "-" }); c.against == "" && i >= 0 && slices.ContainsFunc(args, looksRemote) {
		c.against = args[i]
	}
	for _, arg := range args {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if looksRemote(arg) {
			err = c.remote(ctx, arg)
		} else {
			err = c.local(ctx, arg)
		}
		if err != nil {
			c.fail(err)
		}
	}
	if c.sarif {
		if err := c.a.printJSON(sarifLog(c.log)); err != nil {
			return err
		}
	}
	switch {
	case c.failed != nil:
		return c.failed
	case c.findings:
		return errFindings
	}
	return nil
}

// fail keeps going: one unreadable input does not hide the others. All but the
// last error are told at once, the last one by the program's end.
func (c *checker) fail(err error) {
	if c.failed != nil {
		fmt.Fprintf(c.a.err, "%s%s\n", c.a.say("error: ", "错误："), c.a.words(fmt.Sprint(c.failed)))
	}
	c.failed = err
}

func (c *checker) local(ctx context.Context, path string) error {
	data, err := c.a.readInput(path)
	if err != nil {
		return err
	}
	r, _, err := c.f.check(ctx, path, data, c.o)
	if err != nil {
		return err
	}
	return c.show(r)
}

// show prints one report as soon as it is there.
func (c *checker) show(r *chain.Report) error {
	c.findings = c.findings || r.Verdict != chain.OK
	if !c.sarif {
		r = r.In(c.a.dataLang())
	}
	if c.clients {
		r.Clients = r.Outcomes()
	}
	switch {
	case c.sarif:
		c.log = append(c.log, r)
		return nil
	case c.a.json:
		return c.a.printJSON(r)
	}
	return writeReport(c.a, r)
}

// writeReport tells a report to a person.
func writeReport(a *app, r *chain.Report) error {
	var b strings.Builder
	words := map[chain.Verdict]string{chain.OK: a.say("ok", "正常"), chain.Warning: a.say("works, and should be mended", "可用，但应修正"), chain.Error: a.say("broken", "有错误")}
	fmt.Fprintf(&b, "%s%s%s\n", visible(r.Input), a.say(": ", "："), words[r.Verdict])
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n  %s %s%s\n", a.severity(f.Severity), f.Code, where(a, f.Place))
		if f.Subject != "" && f.Subject != r.Input {
			fmt.Fprintf(&b, "    %s\n", visible(f.Subject))
		}
		if f.Evidence != "" {
			fmt.Fprintf(&b, "    %s%s\n", a.say("seen: ", "现象："), visible(a.words(f.Evidence)))
		}
		fmt.Fprintf(&b, "    %s\n", visible(f.Meaning))
		for _, c := range f.Consequences {
			fmt.Fprintf(&b, "    %s%s\n", a.say("hence: ", "后果："), visible(a.words(c)))
		}
		fmt.Fprintf(&b, "    %s%s\n", a.say("mend: ", "修复："), visible(f.Remedy))
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n")
	}
	for _, l := range r.Chain {
		role := map[string]string{"leaf": a.say("leaf", "叶证书"), "intermediate": a.say("intermediate", "中间证书"), "root": a.say("root", "根证书")}[l.Role]
		until := a.say("until ", "至 ") + l.NotAfter.Format("2006-01-02")
		if l.NotAfter.IsZero() {
			until = a.say("cannot be read", "无法读取")
		}
		fmt.Fprintf(&b, a.say("  %s  %s  (%s)\n", "  %s  %s（%s）\n"), role, visible(l.Subject), until)
	}
	if s := repairWords(a, r); s != "" {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	for _, o := range r.Clients {
		verb := map[string]string{"reads": a.say("server", "服务器"), "verifies": a.say("client", "客户端")}[o.Role]
		if o.Works {
			fmt.Fprintf(&b, "  %s %s%s\n", verb, o.Client, a.say(": works", "：正常"))
		} else {
			fmt.Fprintf(&b, "  %s %s%s%s\n", verb, o.Client, a.say(": fails, ", "：失败，"), strings.Join(o.Because, ", "))
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func where(a *app, p chain.Place) string {
	var s []string
	if p.Cert >= 0 {
		s = append(s, fmt.Sprintf(a.say("certificate %d", "证书 %d"), p.Cert))
	}
	if p.Line > 0 {
		s = append(s, fmt.Sprintf(a.say("line %d", "第 %d 行"), p.Line))
	}
	if p.Byte >= 0 {
		s = append(s, fmt.Sprintf(a.say("byte %d", "字节 %d"), p.Byte))
	}
	if len(s) == 0 {
		return ""
	}
	return fmt.Sprintf(a.say(" (%s)", "（%s）"), strings.Join(s, a.say(", ", "，")))
}

func repairWords(a *app, r *chain.Report) string {
	if r.Verdict == chain.OK {
		return ""
	}
	n := len(r.Repair.Chain)
	certificates := a.count(n, "certificate", "个证书")
	switch r.Repair.Class {
	case chain.ClassLocal:
		return fmt.Sprintf(a.say("repair: the file itself is enough; what stays: %s", "修复：仅凭文件本身即可；保留 %s"), certificates)
	case chain.ClassPool, chain.ClassNetwork:
		if n == 0 {
			return a.say("repair: an intermediate must be found: --intermediates, an imported pool, or --fetch", "修复：需要找到中间证书：--intermediates、已导入的证书库，或 --fetch")
		}
		return fmt.Sprintf(a.say("repair: possible with the intermediates at hand; %s", "修复：利用已有中间证书即可；共 %s"), certificates)
	case chain.ClassReissue:
		return a.say("repair: only the CA can, with a new certificate", "修复：只能由 CA 重新签发")
	case chain.ClassInput:
		return a.say("repair: another file is needed", "修复：需要换一个文件")
	}
	return a.say("repair: nothing in the file to mend; see above", "修复：文件本身无需修改，见上文")
}

// visible keeps a stranger's bytes from steering the terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r >= 0x7F && r < 0xA0 || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}
