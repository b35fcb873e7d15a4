package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// TestReload: the file of a running federation changes; what SIGHUP may change
// changes, what it may not, or what is wrong, leaves everything as it is.
func TestReload(t *testing.T) {
	s := stand.New(t, stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"})
	east := s.Clusters[0]
	admin := stand.FreePort(t)
	api := east.Section()["api"].(stand.Object)
	api["admin"] = admin.String()
	s.Start()

	exports := func() string {
		token := filepath.Join(s.Dir, east.Name, "data", "federation", "api.token")
		out, err := exec.CommandContext(t.Context(), stand.Binary(t), "export", "list", "--api", "http://"+east.API.String(), "--token-file", token).CombinedOutput()
		if err != nil {
			t.Fatalf("export list: %v: %s", err, out)
		}
		return string(out)
	}
	path := filepath.Join(s.Dir, east.Name, "federation.yaml")
	rewrite := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		east.Federation.Signal(syscall.SIGHUP)
	}
	config := func() string {
		data, err := json.Marshal(east.Config)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}

	for _, p := range []string{"healthz", "readyz", "metrics"} {
		if _, err := stand.Get("http://" + admin.String() + "/" + p); err != nil {
			t.Errorf("admin listener: %s: %v", p, err)
		}
	}
	if _, err := stand.Get("http://" + admin.String() + "/v1/exports"); err == nil {
		t.Error("the admin listener answers /v1/exports")
	}

	east.Section()["exports"] = []any{stand.Object{"name": "by-signal", "services": []any{"web.default"}, "to": []any{"*"}}}
	rewrite(config())
	stand.Eventually(t, time.Minute, "the export is there", func() error {
		if out := exports(); !strings.Contains(out, "by-signal") {
			return fmt.Errorf("exports: %s", out)
		}
		return nil
	})

	refused := func(text, why string) {
		t.Helper()
		rewrite(text)
		stand.Eventually(t, time.Minute, "the log says why", func() error {
			if east.Federation.LogCount("configuration not taken", why) == 0 {
				return fmt.Errorf("no line says %q", why)
			}
			return nil
		})
		if out := exports(); !strings.Contains(out, "by-signal") {
			t.Errorf("after a refused file: exports: %s", out)
		}
	}
	refused(strings.Replace(config(), "by-signal", "No Label", 1), "exports[0].name")
	refused(strings.Replace(config(), `"region":"us-east-1"`, `"region":"us-east-2"`, 1), "cluster: changes at a restart only")
	api["admin"] = stand.FreePort(t).String()
	refused(config(), "change at a restart only")
}
