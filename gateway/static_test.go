package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// readyz asks the admin listener.
func (n *node) readyz() (status int, conditions map[string]string) {
	t := n.cluster.world.t
	t.Helper()
	status, body := n.admin("/readyz")
	var answer struct {
		Ready      bool
		Conditions []struct {
			Name, Reason string
			OK           bool
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if answer.Ready != (status == http.StatusOK) {
		t.Errorf("ready %v with %d", answer.Ready, status)
	}
	conditions = make(map[string]string)
	for _, c := range answer.Conditions {
		conditions[c.Name] = fmt.Sprint(c.OK, " ", c.Reason)
	}
	return status, conditions
}

// saved waits until the gateway has its table on disk and returns the files,
// newest first.
func (n *node) saved() []string {
	t := n.cluster.world.t
	t.Helper()
	eventually(t, "a table on disk", func() error {
		if n.metric("isthmus_gateway_table_saves_total", "result=ok") < 1 {
			return errors.New("none")
		}
		return nil
	})
	files, err := filepath.Glob(filepath.Join(n.config.DataDir, "tables", "*.snap"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	slices.Sort(files)
	slices.Reverse(files)
	return files
}

// TestEveryFederationIsAbsentAtBoot: gateways that had a table serve from their
// disks, with nothing else running.
func TestEveryFederationIsAbsentAtBoot(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("beta")))
	far := w.cluster("beta").gateways[0]
	var hashes []string
	for _, n := range []*node{near, far} {
		n.saved()
		_, table := n.admin("/debug/table")
		hashes = append(hashes, string(table))
	}
	near.stop()
	far.stop()
	start := time.Now()
	for i, n := range []*node{near, far} {
		n.tables, n.reports = newTableFeed(), new(reportBook) // silent
		n.boot()
		n.waitReady()
		if _, table := n.admin("/debug/table"); string(table) != hashes[i] {
			t.Errorf("%s/%s serves %s, had %s", n.cluster.name, n.name, table, hashes[i])
		}
	}
	near.waitLinked()
	status, _, body := get(t, near.client(), "http://web.default.mesh/")
	if status != http.StatusOK || parse(t, body).Name != "beta" {
		t.Fatalf("%d %s", status, body)
	}
	t.Logf("both served from disk %v after their start", time.Since(start))
}

func TestACorruptNewestTableCostsNothing(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("beta")))
	near.saved()
	w.push()
	eventually(t, "a second table on disk", func() error {
		if n := len(near.saved()); n < 2 {
			return fmt.Errorf("%d files", n)
		}
		return nil
	})
	near.stop()
	newest := near.saved()[0]
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(newest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	near.tables = newTableFeed()
	near.boot()
	near.waitReady()
	if n := near.metric("isthmus_gateway_tables_total", "result=corrupt"); n != 1 {
		t.Errorf("%v corrupt tables counted", n)
	}
	near.waitLinked()
	if status, _, body := get(t, near.client(), "http://web.default.mesh/"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
}

// TestAGatewayWithoutAnythingSaysWhatItLacks and takes no call until it has it.
func TestAGatewayWithoutAnythingSaysWhatItLacks(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	near := w.cluster("alpha").gateway("gw1")
	near.boot()
	eventually(t, "the identity is judged", func() error {
		status, conditions := near.readyz()
		if status != http.StatusServiceUnavailable || conditions["table"] != "false not yet" ||
			conditions["identity"] != "true spiffe://alpha.test/isthmus/cluster/alpha/gateway/gw1" || conditions["serving"] != "true " {
			return fmt.Errorf("%d %v", status, conditions)
		}
		return nil
	})
	status, header, _ := get(t, near.client(), "http://web.default.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "no_table" {
		t.Errorf("%d %v", status, header)
	}
	w.push()
	near.waitReady()
	eventually(t, "the peer that is down is named", func() error {
		if status, conditions := near.readyz(); status != http.StatusOK || conditions["links"] == "true " {
			return fmt.Errorf("%d %v", status, conditions)
		}
		return nil
	})
	if status, body := near.admin("/healthz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if status, body := near.admin("/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles on a tcp port: %d %s", status, body)
	}
	if status, body := near.admin("/debug/explain?service=web"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if status, body := near.admin("/metrics"); status != http.StatusOK || len(body) == 0 {
		t.Errorf("metrics: %d", status)
	}
}

// TestTablesThatMustNotReplaceTheOneInForce are refused and told.
func TestTablesThatMustNotReplaceTheOneInForce(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("beta")))
	good := uint64(near.metric("isthmus_gateway_table_version"))
	offer := func(result string, spoil func()) {
		t.Helper()
		before := near.metric("isthmus_gateway_tables_total", "result="+result)
		spoil()
		eventually(t, "the table is judged "+result, func() error {
			if n := near.metric("isthmus_gateway_tables_total", "result="+result); n != before+1 {
				return fmt.Errorf("%v", n)
			}
			return nil
		})
		if status, _, body := get(t, near.client(), "http://web.default.mesh/"); status != http.StatusOK {
			t.Errorf("after %s: %d %s", result, status, body)
		}
		if v := near.metric("isthmus_gateway_table_version"); v != float64(good) {
			t.Errorf("after %s: version %v, want %d", result, v, good)
		}
	}
	alpha := w.cluster("alpha")
	offer("older", func() {
		old := w.table(alpha)
		old.Version = good - 1
		near.tables.push(old)
	})
	if _, conditions := near.readyz(); conditions["table_offer"] == "true " {
		t.Errorf("readiness does not tell: %v", conditions)
	}
	offer("older", func() {
		old := w.table(alpha)
		old.Epoch = 0
		near.tables.push(old)
	})
	offer("unchanged", func() {
		same := w.table(alpha)
		same.Version = good
		near.tables.push(same)
	})
	for _, name := range []catalog.ClusterName{"beta", ""} { // another cluster's, or nobody's
		offer("invalid", func() {
			foreign := w.table(alpha)
			foreign.Cluster.Name = name
			near.tables.push(foreign)
		})
	}
	offer("invalid", func() { near.tables.push(nil) })
	offer("invalid", func() {
		newer := w.table(alpha)
		newer.Format++
		near.tables.push(newer)
	})
	if status, _ := near.readyz(); status != http.StatusOK {
		t.Errorf("a refused table makes the gateway unready: %d", status)
	}
}

// series are the names of all samples of a node.
func (n *node) series() []string {
	families, err := n.registry.Gather()
	if err != nil {
		n.cluster.world.t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		for _, m := range f.Metric {
			names = append(names, fmt.Sprint(f.GetName(), m.Label))
		}
	}
	slices.Sort(names)
	return names
}

// TestSeriesDoNotOutliveTheirServices compares them before and after churn: what
// names a service is gone, and nothing else grows with the rounds.
func TestSeriesDoNotOutliveTheirServices(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("beta")))
	c := near.client()
	beta := w.cluster("beta")
	all := beta.services
	known := func(services []route.Service) {
		beta.services = services
		w.push()
		for _, cl := range w.clusters {
			n := cl.gateways[0]
			eventually(t, "tables", func() error {
				if v := n.metric("isthmus_gateway_table_version"); v < float64(w.version-1) {
					return fmt.Errorf("version %v", v)
				}
				return nil
			})
		}
	}
	for round := range 5 {
		known(all)
		for range 3 {
			if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
				t.Fatalf("round %d: %d %s", round, status, body)
			}
		}
		if !slices.ContainsFunc(near.series(), func(s string) bool { return strings.Contains(s, "web.default") }) {
			t.Fatal("no series names the service that was called")
		}
		known(nil)
		get(t, c, "http://web.default.mesh/") // a caller that does not know yet
		for _, s := range near.series() {
			if strings.Contains(s, "web.default") {
				t.Errorf("round %d: left over: %s", round, s)
			}
		}
	}
}
