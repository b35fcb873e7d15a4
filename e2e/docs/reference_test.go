package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
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
	b.WriteString("\n")
	same(t, "configuration-reference.md", b.String())
}

var helpLine = regexp.MustCompile(`(?m)^# HELP (isthmus_\S+) (.*)\n# TYPE \S+ (\S+)$`)

// The metrics of both roles, as running processes serve them.
func TestMetricsList(t *testing.T) {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	s.Start()
	metrics := map[string][2]string{}
	for _, url := range []string{
		"http://" + s.Clusters[0].Gateways[0].Admin.String() + "/metrics",
		"http://" + s.Clusters[0].API.String() + "/metrics",
	} {
		body, err := stand.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range helpLine.FindAllStringSubmatch(string(body), -1) {
			metrics[m[1]] = [2]string{m[3], m[2]}
		}
	}
	if len(metrics) == 0 {
		t.Fatal("no metrics were served")
	}
	path := filepath.Join("..", "..", "docs", "metrics.md")
	have, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if !*update {
		// which series exist depends on what happened; none may be undocumented
		for name := range metrics {
			if !strings.Contains(string(have), "`"+name+"`") {
				t.Errorf("docs/metrics.md lacks %s; run: go test ./e2e/docs -update", name)
			}
		}
		return
	}
	for line := range strings.SplitSeq(string(have), "\n") { // keep what this run did not bring about
		if m := regexp.MustCompile("^\\| `(isthmus_\\S+)` \\| (\\S+) \\| (.*) \\|$").FindStringSubmatch(line); m != nil {
			if _, seen := metrics[m[1]]; !seen {
				metrics[m[1]] = [2]string{m[2], m[3]}
			}
		}
	}
	var names []string
	for name := range metrics {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("# Metrics\n\nWritten by `go test ./e2e/docs -update` from what running processes serve: gateways on their admin\naddress, federations on their API address, both at `/metrics`. Label values come from closed sets; the\nseries of a service, peer or source end with it.\n\n| metric | kind | meaning |\n|---|---|---|\n")
	for _, name := range names {
		b.WriteString("| `" + name + "` | " + metrics[name][0] + " | " + metrics[name][1] + " |\n")
	}
	same(t, "metrics.md", b.String())
}
