package guides_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// Every page is in the index, and some test reads it.
func TestEveryPageIsListedAndRun(t *testing.T) {
	root := stand.Root(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "guides", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob(filepath.Join(root, "e2e", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range tests {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(data)
	}
	index, err := os.ReadFile(filepath.Join(root, "docs", "guides", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := filepath.Base(page)
		if name == "README.md" {
			continue
		}
		if !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("docs/guides/README.md does not list %s", name)
		}
		if !strings.Contains(code.String(), `"`+name+`"`) {
			t.Errorf("no test reads docs/guides/%s", name)
		}
	}
	if len(pages) < 2 {
		t.Errorf("%d pages in %s", len(pages), root)
	}
}
