package terraform_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// checkout is where terraform/ lies as seen from this package.
var checkout = filepath.Join("..", "..")

// copied is a copy of the checkout's Terraform files, with what they read beside.
func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"terraform/modules", "terraform/examples", "deploy/systemd"} {
		if err := os.CopyFS(filepath.Join(dir, part), clean(os.DirFS(filepath.Join(checkout, part)))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// folder is one in which terraform runs.
type folder struct {
	t   *testing.T
	bin string
	dir string
	env []string
}

// open is a folder below a copy of the checkout.
func open(t *testing.T, dir string, env ...string) *folder {
	t.Helper()
	bin := tools.External(t, "terraform", "the tests of the Terraform modules run it: https://developer.hashicorp.com/terraform/install")
	said.Do(func() {
		out, err := exec.Command(bin, "version").Output()
		first, _, _ := strings.Cut(string(out), "\n")
		t.Logf("ran against: %s (%v)", first, err)
	})
	return &folder{t: t, bin: bin, dir: dir, env: env}
}

var said sync.Once

// with is the same folder with more in its environment.
func (f *folder) with(env ...string) *folder {
	other := *f
	other.env = append(append([]string{}, f.env...), env...)
	return &other
}

// try runs terraform and returns everything that it says.
func (f *folder) try(args ...string) (string, error) {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), f.bin, args...)
	cmd.Dir = f.dir
	cmd.Env = append(bare(), append([]string{
		"TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1", "TF_CLI_ARGS=-no-color", "TF_CLI_CONFIG_FILE=" + emptyConfig(f.t),
	}, f.env...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try of what must work.
func (f *folder) run(args ...string) string {
	f.t.Helper()
	out, err := f.try(args...)
	if err != nil {
		f.t.Fatalf("terraform %s in %s: %v\n%s", strings.Join(args, " "), filepath.Base(f.dir), err, out)
	}
	return out
}

func (f *folder) init() { f.t.Helper(); f.run("init") }
func (f *folder) apply(more ...string) {
	f.t.Helper()
	f.run(append([]string{"apply", "-auto-approve"}, more...)...)
}
func (f *folder) destroy() { f.t.Helper(); f.run("destroy", "-auto-approve") }

// emptyPlan fails the test where another plan would change something.
func (f *folder) emptyPlan() {
	f.t.Helper()
	if out, err := f.try("plan", "-detailed-exitcode"); err != nil {
		f.t.Errorf("another plan of %s is not empty: %v\n%s", filepath.Base(f.dir), err, out)
	}
}

// changesNothingBut fails the test where another plan would change anything but the
// named attributes of resources, which an imitated cloud does not keep as they were
// made.
func (f *folder) changesNothingBut(forgotten map[string][]string) {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), "plan")
	f.run("plan", "-out="+path)
	var plan struct {
		ResourceChanges []struct {
			Address, Mode string
			Change        struct {
				Actions       []string
				Before, After map[string]any
			}
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal([]byte(f.run("show", "-json", path)), &plan); err != nil {
		f.t.Fatal(err)
	}
	kept := 0
	for _, r := range plan.ResourceChanges {
		if r.Mode != "managed" {
			continue
		}
		if slices.Equal(r.Change.Actions, []string{"no-op"}) {
			kept++
			continue
		}
		for name, before := range r.Change.Before {
			if !reflect.DeepEqual(before, r.Change.After[name]) && !slices.Contains(forgotten[r.Address], name) {
				f.t.Errorf("another plan would %v %s: %s from %v to %v", r.Change.Actions, r.Address, name, before, r.Change.After[name])
			}
		}
		if !slices.Equal(r.Change.Actions, []string{"update"}) {
			f.t.Errorf("another plan would %v %s", r.Change.Actions, r.Address)
		}
	}
	f.t.Logf("figure: %s: another plan keeps %d of %d resources as they are", f.t.Name(), kept, kept+len(forgotten))
}

// refused runs a plan or apply that must fail, naming what is wrong.
func (f *folder) refused(args []string, names ...string) {
	f.t.Helper()
	out, err := f.try(args...)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		f.t.Errorf("terraform %s is not refused: %v\n%s", strings.Join(args, " "), err, out)
		return
	}
	flat := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " ")
	for _, name := range names {
		if !strings.Contains(flat, name) {
			f.t.Errorf("terraform %s does not name %q:\n%s", strings.Join(args, " "), name, out)
		}
	}
}

// bare is the environment without what would change a run.
func bare() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TF_") && !strings.HasPrefix(kv, "AWS_") {
			out = append(out, kv)
		}
	}
	return out
}

// emptyConfig is a configuration of the command line that names nothing.
func emptyConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "empty.tfrc")
	if err := os.WriteFile(path, []byte("disable_checkpoint = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parallel runs each and waits for all.
func parallel(each ...func()) {
	var wg sync.WaitGroup
	for _, f := range each {
		wg.Go(f)
	}
	wg.Wait()
}

func write(t *testing.T, path, format string, args ...any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		t.Fatal(err)
	}
}
