package apply_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/apply"
)

const billing = `
exports:
  - {name: billing, services: [billing.default], to: ["*"]}
intentions:
  - {name: web-may-bill, services: [billing.default], callers: ["spiffe://a.example/web"], action: allow}
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFolderAndStdin(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", billing)
	write(t, dir, "b.yml", "traffic_policies:\n  - {name: all, services: [\"*\"], panic_threshold: 0}\n")
	write(t, dir, "notes.txt", "not: read")
	write(t, dir, ".hidden.yaml", "not: read")
	want, err := apply.Read([]string{dir, "-"}, strings.NewReader("imports:\n  - {name: in, from: gcp, services: [\"*\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 4 {
		t.Fatalf("%d rules, want 4: %v", len(want), want)
	}
	traffic := want[apply.Key{Kind: apply.TrafficPolicies, Name: "all"}]
	if string(traffic["panic_threshold"]) != "0" {
		t.Errorf("panic_threshold: 0 turns panic off and must not read as absent: %s", traffic)
	}
}

func TestReadReportsEveryProblem(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", billing)
	write(t, dir, "b.yaml", billing)
	write(t, dir, "c.yaml", "exports:\n  - {name: Bad Name, services: [x_y], to: []}\n")
	write(t, dir, "d.yaml", "exprots: []\n")
	_, err := apply.Read([]string{dir}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"b.yaml: exports/billing: is in " + filepath.Join(dir, "a.yaml"),
		"b.yaml: intentions/web-may-bill: is in",
		"c.yaml:2:", "exports[0].name", "exports[0].services[0]",
		"d.yaml:1:1: exprots: unknown key",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
}

func TestReadRefusesNothing(t *testing.T) {
	if _, err := apply.Read([]string{t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "no .yaml") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := apply.Read([]string{filepath.Join(t.TempDir(), "nowhere")}, nil); err == nil {
		t.Error("a folder that is not there is no error")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(billing)
	f.Add("exports: [{name: a}]")
	f.Fuzz(func(t *testing.T, text string) {
		want, err := apply.Read([]string{"-"}, strings.NewReader(text))
		if err != nil {
			return
		}
		// What was read plans without a conflict where there is nothing yet.
		if p := apply.New(apply.State{Want: want}, false); len(p.Conflicts) > 0 || len(p.Steps) != len(want) {
			t.Fatalf("steps %v, conflicts %v of %v", p.Steps, p.Conflicts, want)
		}
	})
}
