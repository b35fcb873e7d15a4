package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
)

var update = flag.Bool("update", false, "write the documents instead of comparing them") //nolint:gochecknoglobals // a test flag

// same compares a document's generated part with what it should be.
func same(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/%s is not what the code says; run: go test ./e2e/docs -update", name)
	}
}

func TestConfigurationReference(t *testing.T) {
	c := comments{}
	var b strings.Builder
	b.WriteString(`# Configuration reference

Written from the code by ` + "`go test ./e2e/docs -update`" + `; [configuration.md](configuration.md) explains.
Unknown keys are errors. A duration is a number with a unit: ` + "`500ms`, `30s`, `1h`" + `.

## isthmus run

| key | kind | meaning |
|---|---|---|
`)
	b.WriteString(strings.Join(rows(t, c, reflect.TypeFor[config.Config](), ""), "\n"))
	b.WriteString("\n\n## isthmus ca serve\n\n| key | kind | meaning |\n|---|---|---|\n")
	b.WriteString(strings.Join(rows(t, c, reflect.TypeFor[config.CA](), ""), "\n"))
	b.WriteString("\n\n## isthmus ca agent\n\n| key | kind | meaning |\n|---|---|---|\n")
	b.WriteString(strings.Join(rows(t, c, reflect.TypeFor[config.CAAgent](), ""), "\n"))
	b.WriteString("\n")
	same(t, "configuration-reference.md", b.String())
}
