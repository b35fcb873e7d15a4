package damage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
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

const within = time.Minute

// kinds are the files that outlive a process, by the pattern of their names, and
// what of one of them is flipped. Of those that are kept several times it is the
// newest.
var kinds = []struct {
	name, dir, pattern string
}{
	{"route table", "data-gw1", `^table-\d+\.snap$`},
	{"reset key", "data-gw1", `^reset\.key$`},
	{"identity of the gateway", "data-gw1", `^identity.*\.json$`},
	{"identity of the federation", "data", `^identity.*\.json$`},
	{"store", "data", `^store\.db$`},
	{"snapshot of a source", "data", `^.*\.snapshot$`},
	{"state of a peer", "data", `^west\.\d+\.good$`},
	{"audit log", "data", `^audit-\d+\.jsonl$`},
	{"token", "data", `^api\.token$`},
}

func TestOneFlippedByteOfEverything(t *testing.T) {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	east, west := s.Clusters[0], s.Clusters[1]
	west.WriteCatalog(t, stand.Service{Name: "web.default", Port: "main", Protocol: "http", Addresses: []string{instance(t, "west")}})
	east.WriteCatalog(t, stand.Service{Name: "own.default", Port: "main", Protocol: "http", Addresses: []string{instance(t, "east")}})
	s.Start()
	call := func(host string) error {
		body, err := get(east.Gateways[0].HTTP.String(), host)
		if err == nil && body == "" {
			err = errors.New("no answer")
		}
		return err
	}
	flows := func(what string) {
		t.Helper()
		stand.Eventually(t, within, what, func() error { return errors.Join(call("web.default.mesh"), call("own.default.mesh")) })
	}
	flows("calls flow")
	token := filepath.Join(s.Dir, "east", "data", "federation", "api.token")
	before, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	// Something in the audit log and in the store.
	if err := post(east, strings.TrimSpace(string(before))); err != nil {
		t.Fatal(err)
	}
	stand.Eventually(t, within, "every file is there", func() error {
		for _, k := range kinds {
			if _, err := newest(filepath.Join(s.Dir, "east", k.dir), k.pattern); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		return nil
	})
	// One more state of the peer, and one more table: those before them know the
	// peer's service, too.
	west.WriteCatalog(t, stand.Service{Name: "web.default", Port: "main", Protocol: "http", Addresses: []string{instance(t, "west"), instance(t, "west")}})
	stand.Eventually(t, within, "one more state of the peer", func() error {
		_, err := newest(filepath.Join(s.Dir, "east", "data"), `^west\.0*[2-9]\d*\.good$`)
		return err
	})
	tables := filepath.Join(s.Dir, "east", "data-gw1")
	table, err := newest(tables, `^table-\d+\.snap$`)
	if err != nil {
		t.Fatal(err)
	}
	east.WriteCatalog(t, stand.Service{Name: "own.default", Port: "main", Protocol: "http", Addresses: []string{instance(t, "east"), instance(t, "east")}})
	stand.Eventually(t, within, "one more table", func() error {
		if now, err := newest(tables, `^table-\d+\.snap$`); err != nil || now == table {
			return fmt.Errorf("%s, %w", now, err)
		}
		return nil
	})
	ca := s.Domains["east.test"]
	for _, p := range []*stand.Process{east.Gateways[0].Process, east.Federation, ca.CA} {
		p.Stop()
	}
	for _, k := range kinds {
		path, err := newest(filepath.Join(s.Dir, "east", k.dir), k.pattern)
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		flip(t, path)
	}
	flip(t, filepath.Join(s.Dir, "ca-east.test", "roots.state"))

	// The gateway alone, with everything else dead: as after the loss of a site.
	began := time.Now()
	east.Gateways[0].Start()
	east.Gateways[0].AwaitReady()
	flows("calls flow on what is on the disk")
	alone := time.Since(began)
	ca.CA.Start()
	east.Federation.Start()
	stand.Eventually(t, within, "the federation answers", func() error {
		_, err := stand.Get("http://" + east.API.String() + "/healthz")
		return err
	})
	flows("calls flow")

	after, err := os.ReadFile(token)
	if err != nil || string(after) != string(before) {
		t.Errorf("the token was %q, is %q, %v", before, after, err)
	}
	for _, says := range []struct {
		p    *stand.Process
		what string
	}{
		{east.Gateways[0].Process, "table on disk cannot be used"},
		{east.Gateways[0].Process, "reset key was damaged"},
		{east.Gateways[0].Process, "identity cache was damaged"},
		{east.Federation, "identity cache was damaged"},
		{east.Federation, "api token was damaged"},
		{east.Federation, "audit log repaired"},
		{east.Federation, "newer kept states are damaged"},
		{ca.CA, "a file of the ca was damaged"},
	} {
		if says.p.LogCount(says.what) == 0 {
			t.Errorf("%s does not say %q", says.p.Name, says.what)
		}
	}
	var ready string
	stand.Eventually(t, within, "/readyz names it all", func() error {
		body, err := get(east.API.String(), "")
		if err != nil {
			return err
		}
		ready = body
		for _, part := range []string{"peer west: its kept state", "api token: ", "audit: "} {
			if !strings.Contains(body, part) {
				return fmt.Errorf("no %q in %s", part, body)
			}
		}
		return nil
	})
	t.Logf("readyz: %s", ready)
	for metric, address := range map[string]string{
		`isthmus_gateway_tables_total\{[a-z]+="corrupt"\}`:         east.Gateways[0].Admin.String(),
		`isthmus_identity_cache_errors_total\{role="gateway"\}`:    east.Gateways[0].Admin.String(),
		`isthmus_identity_cache_errors_total\{role="federation"\}`: east.API.String(),
		`isthmus_federation_degraded`:                              east.API.String(),
		`isthmus_federation_audit_problems`:                        east.API.String(),
	} {
		stand.Eventually(t, within, metric+" counts it", func() error {
			body, err := stand.Get("http://" + address + "/metrics")
			m := regexp.MustCompile(`(?m)^` + metric + ` (\S+)$`).FindSubmatch(body)
			if err != nil || m == nil {
				return fmt.Errorf("not there, %w", err)
			}
			if v, err := strconv.ParseFloat(string(m[1]), 64); err != nil || v == 0 {
				return fmt.Errorf("%s, %w", m[1], err)
			}
			return nil
		})
	}
	stand.Figure(t, "one byte flipped in each of %d files: a gateway alone answers again after %d ms, all processes start, serve and say so", len(kinds)+1, alone.Milliseconds())
}

// newest finds the last file of a pattern below a folder.
func newest(dir, pattern string) (string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && regexp.MustCompile(pattern).MatchString(d.Name()) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("no file %s in %s", pattern, dir), err)
	}
	return slices.Max(found), nil
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		t.Fatalf("%s: %d bytes, %v", path, len(data), err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(address, host string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	path := "/"
	if host == "" {
		path = "/readyz"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// post makes a rule.
func post(c *stand.Cluster, token string) error {
	body := `{"name":"later","services":["none.default"],"to":["west"]}`
	req, err := http.NewRequest(http.MethodPost, "http://"+c.API.String()+"/v1/exports", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return errors.New(resp.Status)
	}
	return nil
}

// instance is an HTTP server that says its name.
func instance(t *testing.T, name string) (address string) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}
