package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func newPolicyModulesCommand(a *app) *cobra.Command {
	var f clientFlags
	var in api.AllowedModules
	var allow, signers []string
	var loaded, none bool
	var withdraw uint64
	cmd := &cobra.Command{
		Use:   "modules VM [--allow FILE|DIR]... [--signer CERT]... [--loaded] [--none] [--withdraw VERSION]",
		Short: "Say which kernel modules a VM may load; without flags, show it",
		Long: `Say which kernel modules a VM may load. Each list that is put in force stands beside the others,
so the modules of the next kernel are allowed before the reboot, and those of the old one withdrawn
after it. As soon as there is a list, the VM's agent must send IMA's measurements (--ima), and a
VM whose kernel loaded anything else is refused, with the module named.

The guest's kernel must measure what it loads: write "measure func=MODULE_CHECK" to
/sys/kernel/security/ima/policy at the start of the initramfs. IMA sees modules that are loaded from
a file (finit_module); see docs/formats/module-list.md for what it does not see.`,
		Example: `  vouchsafe policy modules web1 --allow /lib/modules/6.1.0-56-cloud-amd64 --note "kernel 6.1.0-56"
  vouchsafe policy modules web1 --loaded
  vouchsafe policy modules web1 --withdraw 1`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			base := "/v1/vms/" + url.PathEscape(args[0])
			making := len(allow)+len(signers) > 0 || loaded || none
			if making && withdraw > 0 || none && (len(allow)+len(signers) > 0 || loaded) {
				return usageError{errors.New("--withdraw and --none stand alone")}
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			switch {
			case withdraw > 0:
				if err := c.call(cmd.Context(), "DELETE", fmt.Sprintf("%s/policy/modules/%d", base, withdraw), nil, nil); err != nil {
					return err
				}
				fmt.Fprintf(a.err, a.say("version %d of the module lists of %s is withdrawn\n", "模块允许列表版本 %d（%s）已撤回\n"), withdraw, args[0])
				return nil
			case making:
				if in.Modules, err = allowedModules(allow); err != nil {
					return err
				}
				if loaded {
					var at api.Attestation
					if err := c.call(cmd.Context(), "GET", base+"/attestation", nil, &at); err != nil {
						return withHint(err, "%s", a.say("in the guest: vouchsafe-agent attest --ima …", "在虚拟机内：vouchsafe-agent attest --ima …"))
					}
					more, err := loadedModules(at)
					if err != nil {
						return withHint(err, "%s", a.say("in the guest: vouchsafe-agent attest --ima …", "在虚拟机内：vouchsafe-agent attest --ima …"))
					}
					in.Modules = append(in.Modules, more...)
				}
				for _, path := range signers {
					certs, err := readCertificates(path)
					if err != nil {
						return fmt.Errorf("reading --signer: %w", err)
					}
					for _, c := range certs {
						in.Signers = append(in.Signers, c.Raw)
					}
				}
				var l api.ModuleList
				if err := c.call(cmd.Context(), "POST", base+"/policy/modules", in, &l); err != nil {
					return err
				}
				return a.showModuleList(l, false)
			}
			var ls []api.ModuleList
			if err := c.call(cmd.Context(), "GET", base+"/policy/modules", nil, &ls); err != nil {
				return err
			}
			if len(ls) == 0 {
				fmt.Fprintf(a.err, a.say("no list of modules is in force: the kernel of %s may load all\n", "没有生效的模块允许列表：%s 的内核可以加载任何模块\n"), args[0])
			}
			for _, l := range ls {
				if err := a.showModuleList(l, true); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&allow, "allow", nil, "a module, or a directory of modules such as /lib/modules/RELEASE (repeatable)")
	cmd.Flags().StringArrayVar(&signers, "signer", nil, "a certificate whose modules may load, PEM or DER; for kernels that measure with the template ima-modsig (repeatable)")
	cmd.Flags().BoolVar(&loaded, "loaded", false, "what the VM's last appraisal names; look at it first: vouchsafe attest show")
	cmd.Flags().BoolVar(&none, "none", false, "no module at all")
	cmd.Flags().BoolVar(&in.OtherFiles, "other-files", false, "the guest measures other files too (ima_policy=tcb): count only names that end as a module's")
	cmd.Flags().StringVar(&in.Note, "note", "", "for people: which kernel they are of")
	cmd.Flags().Uint64Var(&withdraw, "withdraw", 0, "withdraw this version")
	return cmd
}

// allowedModules hashes the files as IMA does: whole, as they are stored.
func allowedModules(paths []string) ([]attest.AllowedModule, error) {
	files, err := moduleFiles(paths)
	if err != nil {
		return nil, fmt.Errorf("looking for modules: %w", err)
	}
	if len(paths) > 0 && len(files) == 0 {
		return nil, errors.New("there is no module in what --allow names")
	}
	out := []attest.AllowedModule{}
	for _, name := range files {
		sum, err := hashFile(name)
		if err != nil {
			return nil, fmt.Errorf("hashing a module: %w", err)
		}
		out = append(out, attest.AllowedModule{Name: filepath.Base(name), SHA256: sum})
	}
	return out, nil
}

func hashFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, modsig.MaxModule+1))
	if err == nil && n > modsig.MaxModule {
		err = fmt.Errorf("%s is over the limit of %d bytes", name, modsig.MaxModule)
	}
	return h.Sum(nil), err
}

// resultOf takes our own result out of the EAR.
func resultOf(at api.Attestation) (attest.Result, error) {
	var ear struct {
		Submods map[string]struct {
			Detail attest.Result `json:"vouchsafe_result"`
		} `json:"submods"`
	}
	if err := json.Unmarshal(at.Result, &ear); err != nil {
		return attest.Result{}, fmt.Errorf("reading the result: %w", err)
	}
	return ear.Submods["vtpm"].Detail, nil
}

func loadedModules(at api.Attestation) ([]attest.AllowedModule, error) {
	r, err := resultOf(at)
	if err != nil {
		return nil, err
	}
	if r.Boot == nil || len(r.Boot.Modules) == 0 {
		return nil, errors.New("the last appraisal names no module")
	}
	if r.Boot.ModuleCount > len(r.Boot.Modules) {
		return nil, fmt.Errorf("the last appraisal names only %d of %d modules: use --allow", len(r.Boot.Modules), r.Boot.ModuleCount)
	}
	var out []attest.AllowedModule
	for _, m := range r.Boot.Modules {
		if m.Alg != "sha256" {
			return nil, fmt.Errorf("%s was measured with %s, not SHA-256: boot with ima_hash=sha256", m.Name, m.Alg)
		}
		out = append(out, attest.AllowedModule{Name: path.Base(m.Name), SHA256: m.Digest})
	}
	return out, nil
}

func (a *app) showModuleList(l api.ModuleList, whole bool) error {
	if a.json {
		return a.printJSON(l)
	}
	fmt.Fprintf(a.out, a.say("version %d, since %s: %s, %s", "版本 %d，自 %s：%s，%s"), l.Version, l.NotBefore, a.count(len(l.Modules), "module", "个模块"), a.count(len(l.Signers), "signer", "个签名者"))
	if l.Note != "" {
		fmt.Fprintf(a.out, " (%s)", l.Note)
	}
	fmt.Fprintln(a.out)
	for _, m := range l.Modules {
		if !whole {
			break
		}
		if _, err := fmt.Fprintf(a.out, "  %x  %s\n", []byte(m.SHA256), m.Name); err != nil {
			return err
		}
	}
	return nil
}
