package terraform_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of the modules' READMEs instead of comparing them") //nolint:gochecknoglobals // a test flag

var (
	block     = regexp.MustCompile(`(?ms)^(variable|output) "(\w+)" \{\n(.*?)^\}`)
	setting   = regexp.MustCompile(`(?m)^  (\w+) += `)
	hcl       = regexp.MustCompile("(?s)```hcl\n(.*?)```")
	generated = regexp.MustCompile(`(?s)(<!-- tables -->\n).*(<!-- /tables -->)`)
)

// settings are those of a block, each with its text.
func settings(body string) map[string]string {
	out := map[string]string{}
	at := setting.FindAllStringSubmatchIndex(body, -1)
	for i, m := range at {
		end := len(body)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		text, _, _ := strings.Cut(body[m[1]:end], "\n  validation {")
		out[body[m[2]:m[3]]] = strings.Join(strings.Fields(text), " ")
	}
	return out
}

// tables are a module's inputs and outputs, read from its files.
func tables(t *testing.T, dir string) string {
	t.Helper()
	var inputs, outputs strings.Builder
	for _, name := range []string{"variables.tf", "outputs.tf"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			s := settings(m[3])
			description := strings.Trim(s["description"], `"`)
			if description == "" {
				t.Errorf("%s: %s has no description", dir, m[2])
			}
			description = strings.NewReplacer(`\"`, `"`, "|", `\|`).Replace(description)
			if m[1] == "output" {
				fmt.Fprintf(&outputs, "| `%s` | %s |\n", m[2], description)
				continue
			}
			if s["type"] == "" {
				t.Errorf("%s: %s has no type", dir, m[2])
			}
			value := "required"
			if d, ok := s["default"]; ok {
				value = "`" + d + "`"
			}
			fmt.Fprintf(&inputs, "| `%s` | %s | %s |\n", m[2], value, description)
		}
	}
	return "| input | default | meaning |\n|---|---|---|\n" + inputs.String() + "\n| output | meaning |\n|---|---|\n" + outputs.String()
}

// Each module's README lists its inputs and outputs as they are, has the fixed
// sections, and its examples are written as terraform writes them.
func TestReadmes(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(checkout, "terraform", "modules", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("modules: %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "README.md")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		want := generated.ReplaceAllString(string(text), "${1}"+strings.ReplaceAll(tables(t, dir), "$", "$$")+"${2}")
		switch {
		case !generated.Match(text):
			t.Errorf("%s has no place for its tables", path)
		case *update:
			write(t, path, "%s", want)
		case want != string(text):
			t.Errorf("%s does not list what the module has; run: go test ./e2e/terraform -run Readmes -update", path)
		}
		at := 0
		for _, section := range []string{"Description", "Examples", "Inputs and outputs", "Failure behaviour"} {
			i := strings.Index(string(text)[at:], "\n## "+section+"\n")
			if i < 0 {
				t.Errorf("%s lacks the section %q, or has it in another order", path, section)
				continue
			}
			at += i
		}
		wellFormed(t, path, string(text))
	}
	for _, name := range []string{"aws-to-gcp.md", "on-premises-nat.md"} {
		path := filepath.Join(checkout, "docs", "guides", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, path, string(text))
	}
}

// wellFormed judges the HCL of a document.
func wellFormed(t *testing.T, path, text string) {
	t.Helper()
	f := open(t, ".")
	for _, m := range hcl.FindAllStringSubmatch(text, -1) {
		cmd := exec.CommandContext(t.Context(), f.bin, "fmt", "-check", "-diff", "-")
		cmd.Stdin = strings.NewReader(m[1])
		cmd.Env = append(bare(), "TF_CLI_CONFIG_FILE="+emptyConfig(t))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}
