package chain_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCI runs what deploy/ci and examples/chain offer.
func TestCI(t *testing.T) {
	for program, apt := range map[string]string{"git": "git", "jq": "jq", "bash": "bash"} {
		need(t, program, apt)
	}
	b := setUp(t)
	b.write("reversed.pem", string(b.read("ca.pem"))+string(b.read("leaf.pem")))
	t.Setenv("PATH", b.dir+":"+os.Getenv("PATH"))
	t.Setenv("ROOTS", filepath.Join(b.dir, "root.pem"))
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	script := func(want int, stdin string, name string, env ...string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(repo, name))
		cmd.Dir = b.dir
		cmd.Env = append(os.Environ(), env...)
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s %v: exit code %d, want %d\n%s", name, env, got, want, out)
		}
		return string(out)
	}
	t.Run("action", func(t *testing.T) {
		script(0, "", "deploy/ci/chain-check/run.sh", "FILES=goo*.pem", "NAME=www.neighbour.test")
		script(3, "", "deploy/ci/chain-check/run.sh", "FILES=goo*.pem rev*.pem")
		script(1, "", "deploy/ci/chain-check/run.sh", "FILES=nothing*.pem")
		var log struct {
			Runs []struct{ Results []struct{ RuleID string } }
		}
		script(3, "", "deploy/ci/chain-check/run.sh", "FILES=reversed.pem")
		if err := json.Unmarshal(b.read("vouchsafe-chain.sarif"), &log); err != nil || len(log.Runs) != 1 || len(log.Runs[0].Results) != 1 || log.Runs[0].Results[0].RuleID != "ORDER_WRONG" {
			t.Errorf("SARIF: %v, %+v", err, log)
		}
	})
	t.Run("terraform", func(t *testing.T) {
		for file, want := range map[string]string{"good.pem": `{"verdict":"ok","codes":"","remedy":""}`, "reversed.pem": `"verdict":"error","codes":"ORDER_WRONG"`} {
			out := script(0, `{"file":"`+file+`","name":"www.neighbour.test"}`, "examples/chain/terraform/check.sh")
			if !strings.Contains(out, want) {
				t.Errorf("%s: %s, want %s", file, out, want)
			}
		}
	})
	t.Run("pre-commit", func(t *testing.T) {
		repoDir := filepath.Join(b.dir, "repo")
		git := func(args ...string) error {
			cmd := exec.Command("git", append([]string{"-C", repoDir, "-c", "user.name=x", "-c", "user.email=x@example.test"}, args...)...)
			out, err := cmd.CombinedOutput()
			t.Logf("git %v: %v %s", args, err, out)
			return err
		}
		b.run("git", "init", "-q", "repo")
		hook, err := os.ReadFile(filepath.Join(repo, "deploy/ci/chain-check/pre-commit"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(repoDir, ".git/hooks/pre-commit"), hook, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := git("config", "vouchsafe.roots", filepath.Join(b.dir, "root.pem")); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			file string
			ok   bool
		}{{"good.pem", true}, {"reversed.pem", false}} {
			if err := os.WriteFile(filepath.Join(repoDir, c.file), b.read(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := git("add", c.file); err != nil {
				t.Fatal(err)
			}
			if err := git("commit", "-q", "-m", c.file); (err == nil) != c.ok {
				t.Errorf("committing %s: %v", c.file, err)
			}
		}
	})
}
