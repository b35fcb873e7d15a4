package tablestore_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
)

const clusterID = "spiffe://a.test/isthmus/cluster/alpha"

func table(version uint64) *route.Table {
	http := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	return &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: version,
		Cluster:    route.Cluster{Name: "alpha", ID: clusterID, Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}},
		Federation: "127.0.0.1:7444",
		Peers: []route.Peer{{
			Name: "beta", ID: "spiffe://b.test/isthmus/cluster/beta",
			Gateways: []catalog.Gateway{{Name: "gw1", ID: "spiffe://b.test/isthmus/cluster/beta/gateway/gw1", Addresses: []string{"127.0.0.1:7443"}}},
			Asserts:  []policy.IDPattern{"spiffe://b.test/*"},
		}},
		Services: []route.Service{{
			Name: catalog.MustServiceName("web"), Ports: http,
			Endpoints: []catalog.Endpoint{{ID: "web-1", Port: "http", Address: netip.MustParseAddrPort("127.0.0.1:8080"), Weight: 1, Health: catalog.Passing}},
			Remote: []route.Remote{{
				Cluster: "beta", Name: catalog.MustServiceName("web"), Ports: http,
				Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 2}},
			}},
		}},
	}
}

func open(t *testing.T, dir string) *tablestore.Store {
	t.Helper()
	s, err := tablestore.Open(dir, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t *testing.T, s *tablestore.Store, versions ...uint64) {
	t.Helper()
	for _, v := range versions {
		if err := s.Save(table(v)); err != nil {
			t.Fatal(err)
		}
	}
}

func load(t *testing.T, s *tablestore.Store) (*route.Table, []tablestore.Skipped) {
	t.Helper()
	tb, skipped, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return tb, skipped
}

// files lists the store's tables, newest first.
func files(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "table-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	slices.Reverse(found)
	return found
}

func TestATableComesBackAsItWasSaved(t *testing.T) {
	dir := t.TempDir()
	if tb, _ := load(t, open(t, dir)); tb != nil {
		t.Fatalf("an empty store gave %+v", tb)
	}
	save(t, open(t, dir), 7)
	got, skipped := load(t, open(t, dir))
	if len(skipped) != 0 || !reflect.DeepEqual(got, table(7)) {
		t.Fatalf("got %+v, skipped %v", got, skipped)
	}
}

func TestThreeTablesAreKept(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1, 2, 3)
	save(t, open(t, dir), 4, 5) // the numbers go on after a restart
	if got := files(t, dir); len(got) != tablestore.Keep {
		t.Fatalf("%d files are left: %v", len(got), got)
	}
	if got, _ := load(t, open(t, dir)); got.Version != 5 {
		t.Fatalf("version %d, want 5", got.Version)
	}
}

func TestEveryFlippedBitAndEveryCutIsNoticed(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1, 2)
	newest := files(t, dir)[0]
	whole, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, data []byte) {
		t.Helper()
		if err := os.WriteFile(newest, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, skipped := load(t, open(t, dir))
		if got == nil || got.Version != 1 || len(skipped) != 1 || !errors.Is(skipped[0].Err, tablestore.ErrCorrupt) {
			t.Fatalf("%s at %d: got %+v, skipped %v", what, at, got, skipped)
		}
	}
	for i := range whole {
		flipped := slices.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		check("flip", i, flipped)
		check("cut", i, whole[:i])
	}
	check("addition", len(whole), append(slices.Clone(whole), '\n'))
}

func TestAllCorruptIsNothing(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1, 2, 3)
	for _, f := range files(t, dir) {
		if err := os.WriteFile(f, []byte("no"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, skipped := load(t, open(t, dir)); got != nil || len(skipped) != 3 {
		t.Fatalf("got %+v, skipped %v", got, skipped)
	}
}

func TestLeftoversOfACrashAreRemovedAndNeverRead(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1)
	half := filepath.Join(dir, "table-123.tmp")
	other := filepath.Join(dir, "notes.txt")
	for _, f := range []string{half, other} {
		if err := os.WriteFile(f, []byte("isthmus-table 1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, skipped := load(t, open(t, dir)); got.Version != 1 || len(skipped) != 0 {
		t.Fatalf("got %+v, skipped %v", got, skipped)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half-written file is still there: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a file of others is gone: %v", err)
	}
}

func TestATableOfAnotherClusterOrFormatIsNotLoaded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	foreign, newer := table(9), table(10)
	foreign.Cluster.Name = "gamma"
	newer.Format++
	save(t, s, 1)
	for _, tb := range []*route.Table{foreign, newer} {
		if err := s.Save(tb); err != nil {
			t.Fatal(err)
		}
	}
	got, skipped := load(t, s)
	if got == nil || got.Version != 1 || len(skipped) != 2 || !errors.Is(skipped[0].Err, route.ErrTableFormat) {
		t.Fatalf("got %+v, skipped %v", got, skipped)
	}
}

func TestAFailedSaveLeavesTheOldTables(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	s := open(t, dir)
	save(t, s, 1)
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(table(2)); err == nil {
		t.Fatal("saving into a missing directory succeeded")
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if got, _ := load(t, s); got == nil || got.Version != 1 {
		t.Fatalf("got %+v", got)
	}
}

func TestCheck(t *testing.T) {
	if err := tablestore.Check(table(1), "alpha"); err != nil {
		t.Fatalf("a good table: %v", err)
	}
	bad := table(1)
	bad.Cluster.Name = "gamma"
	bad.Services[0].Endpoints[0].Address = netip.MustParseAddrPort("127.0.0.1:0")
	err := tablestore.Check(bad, "alpha")
	for _, want := range []string{"cluster.name", "services[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a problem of %s", err, want)
		}
	}
	if err := tablestore.Check(nil, "alpha"); err == nil {
		t.Error("no table at all passes")
	}
}

// FuzzLoad writes arbitrary bytes as the newest file: the store must neither
// fail nor panic, and gives the table before it unless the bytes are a good one.
func FuzzLoad(f *testing.F) {
	dir := f.TempDir()
	s, err := tablestore.Open(dir, "alpha")
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Save(table(1)); err != nil {
		f.Fatal(err)
	}
	newest := filepath.Join(dir, "table-000000000009.snap")
	f.Add([]byte("isthmus-table 1 2 00000000\n{}"))
	f.Add([]byte("isthmus-table 1 4 2b3b8d10\nnull"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(newest, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := s.Load()
		if err != nil || got == nil {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}
