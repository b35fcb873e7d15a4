package api_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
)

// TestReadmeNamesEveryOperation: the table of resources has each operation of the
// served document, and no other.
func TestReadmeNamesEveryOperation(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "### Resources")
	table, _, found := strings.Cut(table, "**Pages.**")
	if !found {
		t.Fatal("README.md: the table between Resources and Pages is gone")
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`(GET|POST|PUT|DELETE) (/v1/[^`?]*)").FindAllStringSubmatch(table, -1) {
		told[m[1]+" "+m[2]] = true
	}
	parameter := regexp.MustCompile(`\{[a-z]+\}`)
	served := map[string]bool{}
	paths, _ := newContract(t, newStand(t, func(o *api.Options) { o.Peering = noPeering{} })).doc["paths"].(map[string]any)
	for path, item := range paths {
		path = parameter.ReplaceAllStringFunc(path, func(p string) string { return strings.ToUpper(strings.Trim(p, "{}")) })
		for method := range item.(map[string]any) {
			if method := strings.ToUpper(method); slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, method) && strings.HasPrefix(path, "/v1/") {
				served[method+" "+path] = true
			}
		}
	}
	if len(served) < 50 {
		t.Fatalf("only %d operations are served", len(served))
	}
	for _, op := range slices.Sorted(maps.Keys(served)) {
		if !told[op] {
			t.Errorf("README.md does not name %s", op)
		}
	}
	for _, op := range slices.Sorted(maps.Keys(told)) {
		if !served[op] {
			t.Errorf("README.md names %s, which is not served", op)
		}
	}
}
