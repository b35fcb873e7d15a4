package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// metric is what the list says of one.
type metric struct{ kind, help string }

var (
	helpLine = regexp.MustCompile(`(?m)^# HELP (isthmus_\S+) (.*)\n# TYPE \S+ (\S+)$`)
	listLine = regexp.MustCompile("(?m)^\\| `(isthmus_\\S+)` \\| (\\S+) \\| (.*) \\|$")
)

// The metrics of all roles: what running processes serve after calls between two
// clusters, and what only a trouble or another source brings about, as the code
// has it.
func TestMetricsList(t *testing.T) {
	metrics := declared(t)
	maps.Copy(metrics, served(t)) // which knows the kind
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
	for _, m := range listLine.FindAllStringSubmatch(string(have), -1) { // keep what this run did not bring about
		if _, seen := metrics[m[1]]; !seen {
			metrics[m[1]] = metric{kind: m[2], help: m[3]}
		}
	}
	var b strings.Builder
	b.WriteString(`# Metrics

Written by ` + "`go test ./e2e/docs -update`" + ` from what running processes serve and from the code: gateways on their
admin address, federations on their API address, both at ` + "`/metrics`" + `. A series appears when it first has a value.
Label values come from closed sets; the series of a service, peer or source end with it.

| metric | kind | meaning |
|---|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, metrics[name].kind, metrics[name].help)
	}
	same(t, "metrics.md", b.String())
}

// served runs two clusters, makes calls that succeed and that do not, and reads
// the metrics of one.
func served(t *testing.T) map[string]metric {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	s.Start()
	east, west := s.Clusters[0], s.Clusters[1]
	west.WriteCatalog(t, stand.Service{Name: "far", Port: "http", Protocol: "http", Addresses: []string{address}})
	east.WriteCatalog(t, stand.Service{Name: "near", Port: "http", Protocol: "http", Addresses: []string{address}})
	for host, status := range map[string]int{
		"far.default.mesh": http.StatusOK, "near.default.mesh": http.StatusOK, "nobody.default.mesh": http.StatusNotFound,
	} {
		stand.Eventually(t, 20*time.Second, "answer of "+host, func() error {
			return call(east.Gateways[0].HTTP.String(), host, status)
		})
	}
	metrics := map[string]metric{}
	stand.Eventually(t, 20*time.Second, "metrics of calls, links and reports", func() error {
		for _, a := range []string{east.Gateways[0].Admin.String(), east.API.String()} {
			body, err := stand.Get("http://" + a + "/metrics")
			if err != nil {
				return err
			}
			for _, m := range helpLine.FindAllStringSubmatch(string(body), -1) {
				metrics[m[1]] = metric{kind: m[3], help: m[2]}
			}
		}
		for _, name := range []string{
			"isthmus_gateway_requests_total", "isthmus_gateway_refusals_total", "isthmus_gateway_health_checks_total",
			"isthmus_tunnel_rtt_seconds", "isthmus_tunnel_loss_ratio", "isthmus_tunnel_bytes_total",
			"isthmus_federation_report_age_seconds", "isthmus_federation_exchange_age_seconds", "isthmus_exchange_heard_timestamp_seconds",
		} {
			if _, seen := metrics[name]; !seen {
				return fmt.Errorf("%s is not served", name)
			}
		}
		return nil
	})
	return metrics
}

// call makes one request at a way in for HTTP.
func call(address, host string, want int) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Host = host
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("status %d, want %d", resp.StatusCode, want)
	}
	return nil
}

// declared are the metrics whose whole name and help stand in the code: in an
// options literal, or as neighbours in a call.
func declared(t *testing.T) map[string]metric {
	metrics := map[string]metric{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "e2e" || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			name, m := declaration(n)
			if strings.HasPrefix(name, "isthmus_") && m.help != "" {
				metrics[name] = m
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return metrics
}

func declaration(n ast.Node) (string, metric) {
	switch n := n.(type) {
	case *ast.CompositeLit:
		opts, ok := n.Type.(*ast.SelectorExpr)
		if !ok || !strings.HasSuffix(opts.Sel.Name, "Opts") {
			return "", metric{}
		}
		fields := map[string]string{}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok {
					fields[key.Name] = literal(kv.Value)
				}
			}
		}
		return fields["Name"], metric{kind: strings.ToLower(strings.TrimSuffix(opts.Sel.Name, "Opts")), help: fields["Help"]}
	case *ast.CallExpr:
		if len(n.Args) < 2 {
			return "", metric{}
		}
		name := literal(n.Args[0])
		kind := "gauge" // of a helper that makes them; the suffix is the convention's
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		return name, metric{kind: kind, help: literal(n.Args[1])}
	}
	return "", metric{}
}

// literal is the value of a string literal, "" of anything else.
func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return s
}
