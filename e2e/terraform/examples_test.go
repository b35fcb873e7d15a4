package terraform_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// filled puts in what a machine finds itself to be.
var filled = strings.NewReplacer("@NAME@", "gw1", "@ADDRESS@", "203.0.113.9", "@PRIVATE@", "10.20.0.5", "@ZONE@", "z1", "@FEDERATION_0@", "10.20.0.5:7483")

// The examples with clouds: their own tests pass, which validate first, and the product takes each
// configuration that they make. The example one-machine is applied for real.
func TestExamples(t *testing.T) {
	t.Parallel()
	environment := googleSchema(t)
	program := snapshot(t)
	for _, example := range []string{"aws-and-gcp", "hybrid-nat"} {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			f := open(t, filepath.Join(copied(t), "terraform", "examples", example), environment...)
			f.initOrSkip()
			var made map[string]string
			if err := json.Unmarshal(passed(t, f)["joined"].outputs["configurations"], &made); err != nil {
				t.Fatal(err)
			}
			judged := 0
			for name, text := range made {
				if name == "dc1_ca" {
					continue // no file of isthmus run
				}
				path := filepath.Join(t.TempDir(), name+".yaml")
				if err := os.WriteFile(path, []byte(filled.Replace(text)), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(program, "validate", "-c", path).CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s\n%s", name, err, out, text)
				}
				judged++
			}
			if judged != 4 {
				t.Errorf("%d configurations were judged", judged)
			}
		})
	}
}
