package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

// Every relative link of every document leads to a file of the tree.
func TestLinksLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	count := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			count++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count == 0 {
		t.Fatal("no links were found: this test proves nothing")
	}
}

// What extends Isthmus is described in the same sections everywhere.
func TestUnitsAreDescribedInTheFixedSections(t *testing.T) {
	sections := []string{"Name", "Description", "Configuration", "Metrics", "Readiness", "Examples", "Failure behaviour"}
	for _, unit := range []string{
		"discovery/consul", "discovery/file", "discovery/exec", "gateway/tcpway", "gateway/httpway", "cmd/isthmus",
	} {
		data, err := os.ReadFile(filepath.Join("..", "..", unit, "README.md"))
		if err != nil {
			t.Error(err)
			continue
		}
		at := 0
		for _, s := range sections {
			i := strings.Index(string(data)[at:], "\n## "+s+"\n")
			if i < 0 {
				t.Errorf("%s/README.md lacks the section %q, or has it in another order", unit, s)
				continue
			}
			at += i
		}
	}
}
