package terraform_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// finished is one run of a module's tests, with the outputs of its state or plan.
type finished struct {
	outputs map[string]json.RawMessage
}

// passed runs a module's own tests, which must pass, and returns its runs.
func passed(t *testing.T, f *folder) map[string]finished {
	t.Helper()
	out, err := f.try("test", "-json", "-verbose")
	runs := map[string]finished{}
	count := 0
	var said []string
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct {
			Type    string
			Message string                                 `json:"@message"`
			Run     string                                 `json:"@testrun"`
			TestRun struct{ Run, Status, Progress string } `json:"test_run"`
			State   struct {
				Outputs map[string]struct{ Value json.RawMessage }
			} `json:"test_state"`
			Plan struct {
				Outputs map[string]struct{ After json.RawMessage } `json:"output_changes"`
			} `json:"test_plan"`
			Diagnostic struct{ Summary, Detail string }
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // a warning in words
		}
		switch e.Type {
		case "test_run":
			if e.TestRun.Status == "pass" {
				count++
			}
			if e.TestRun.Status != "" && e.TestRun.Status != "pending" {
				said = append(said, e.TestRun.Run+": "+e.TestRun.Status)
			}
		case "diagnostic":
			said = append(said, e.Diagnostic.Summary+": "+e.Diagnostic.Detail)
		case "test_state":
			outputs := map[string]json.RawMessage{}
			for name, v := range e.State.Outputs {
				outputs[name] = v.Value
			}
			runs[e.Run] = finished{outputs}
		case "test_plan":
			outputs := map[string]json.RawMessage{}
			for name, v := range e.Plan.Outputs {
				outputs[name] = v.After
			}
			runs[e.Run] = finished{outputs}
		}
	}
	if err != nil || count == 0 {
		t.Fatalf("tests of %s: %v, %d passed\n%s", filepath.Base(f.dir), err, count, strings.Join(said, "\n"))
	}
	t.Logf("figure: %s: %d runs of the module's own tests passed", t.Name(), count)
	return runs
}

// Modules that need no provider but the built-in one.
func TestModulesWithoutProviders(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"config", "bootstrap", "host", "peering"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			f := open(t, filepath.Join(copied(t), "terraform", "modules", module))
			f.init()
			f.run("validate")
			passed(t, f)
		})
	}
}

// The modules for AWS with the real provider's schema, and its answers made up.
func TestAWSModulesByThemselves(t *testing.T) {
	t.Parallel()
	environment := realAWS(t)
	for _, module := range []string{"gateway-aws", "federation-aws"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			f := open(t, filepath.Join(copied(t), "terraform", "modules", module), environment)
			f.initOrSkip()
			passed(t, f) // it validates first
		})
	}
}

func TestFilesAreFormatted(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(checkout, "terraform"))
	if out, err := f.try("fmt", "-check", "-diff", "-recursive"); err != nil {
		t.Errorf("not formatted, terraform fmt -recursive does it: %v\n%s", err, out)
	}
}

// No state, lock or provider is in the checkout's examples and modules.
func TestNothingIsLeftInTheCheckout(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*/*/terraform.tfstate*", "*/*/*.tfstate"} {
		if found, err := filepath.Glob(filepath.Join(checkout, "terraform", pattern)); err != nil || len(found) > 0 {
			t.Errorf("left: %v, %v", found, err)
		}
	}
}

// initOrSkip is init of what needs a provider that this machine may not have.
func (f *folder) initOrSkip() {
	f.t.Helper()
	out, err := f.try("init")
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		f.t.Fatalf("a provider cannot be had: %v\n%s", err, out)
	}
	f.t.Skipf("a provider cannot be had here: %v\n%s", err, out)
}

// systemd reads the units that the module host makes, and finds nothing wrong.
func TestUnitsOfHost(t *testing.T) {
	t.Parallel()
	analyze := tools.Command(t, "systemd-analyze")
	f := open(t, filepath.Join(copied(t), "terraform", "modules", "host"))
	f.init()
	var units map[string]string
	if err := json.Unmarshal(passed(t, f)["renders_a_file_for_each_role"].outputs["units"], &units); err != nil {
		t.Fatal(err)
	}
	if len(units) != 3 {
		t.Fatalf("units: %v", units)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "isthmus")
	write(t, program, "#!/bin/sh\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	for role, text := range units {
		path := filepath.Join(dir, "isthmus-east-"+role+".service")
		write(t, path, "%s", strings.ReplaceAll(text, "/opt/isthmus/bin/isthmus", program))
		out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
		said := strings.TrimSpace(string(out))
		if err != nil || strings.Contains(said, "isthmus-east-"+role) {
			t.Errorf("the unit of the %s: %v\n%s\n%s", role, err, said, text)
		}
	}
}
