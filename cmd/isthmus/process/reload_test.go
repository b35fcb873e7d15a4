package process

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const text = `
cluster: {name: east, cloud: aws, region: us-east-1}
identity: {trust_domain: east.test, workload_api: "unix:///run/a.sock"}
federation:
  sources: [{file: {path: /etc/catalog.yaml}}]
  exports: [{name: a, services: [a.default], to: ["*"]}]
gateway: {name: gw1, drain_timeout: 10s}
`

func parse(t *testing.T, old, replacement string) *config.Config {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("the file has no %q", old)
	}
	c, err := config.Parse("isthmus.yaml", []byte(strings.Replace(text, old, replacement, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSectionsThatWaitForARestartAreNamed(t *testing.T) {
	have := parse(t, "", "")
	for _, c := range []struct {
		old, replacement string
		want             []string
	}{
		{"", "", nil},
		{"a.default", "b.default", nil}, // policies change at once
		{"us-east-1", "us-east-2", []string{"cluster"}},
		{"/run/a.sock", "/run/b.sock", []string{"identity"}},
		{"10s", "20s", []string{"gateway"}},
		{"catalog.yaml", "other.yaml", []string{"federation.sources"}},
		{"gateway: {name: gw1, drain_timeout: 10s}\n", "", []string{"gateway"}},
		{"cluster:", "log: {level: debug}\ndata_dir: /srv\ncluster:", []string{"data_dir", "log", "gateway"}},
	} {
		if got := fixedSections(have, parse(t, c.old, c.replacement)); !slices.Equal(got, c.want) {
			t.Errorf("%q to %q: %v, want %v", c.old, c.replacement, got, c.want)
		}
	}
}

func TestAChangeThatWaitsForARestartIsSaidAndComparedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		changes := make(chan *config.Config)
		go follow(t.Context(), parse(t, "", ""), catalog.Locality{}, nil, changes, slog.New(slog.NewTextHandler(&log, nil)))
		changes <- parse(t, "10s", "20s")
		changes <- parse(t, "a.default", "b.default")
		synctest.Wait()
		if n := strings.Count(log.String(), "not taken"); n != 1 || !strings.Contains(log.String(), "gateway: changes at a restart only") {
			t.Errorf("the log says %d times that a change was not taken:\n%s", n, log.String())
		}
		if strings.Count(log.String(), "configuration taken") != 1 {
			t.Errorf("the second change was not taken:\n%s", log.String())
		}
	})
}
