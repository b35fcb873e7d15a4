package demo_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/demo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ports hands out 127.0.0.1:10000 and up.
func ports() func() (netip.AddrPort, error) {
	next := uint16(10000)
	return func() (netip.AddrPort, error) {
		next++
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), next), nil
	}
}

// The files that the demo writes are configuration that any operator could have
// written: each must pass the checks of the command that reads it.
func TestPlanWritesValidConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder: with \"signs\"")
	plan, err := demo.NewPlan(dir, 20*time.Millisecond, ports())
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Clusters {
		for j := range plan.Clusters[i].Gateways {
			plan.Clusters[i].Gateways[j].Public = netip.MustParseAddrPort("127.0.0.1:9")
		}
	}
	if err := plan.WriteFiles(); err != nil {
		t.Fatal(err)
	}
	for _, p := range plan.Processes() {
		path := p.Args[len(p.Args)-1]
		switch p.Kind {
		case demo.KindCA:
			if _, err := config.LoadCA(path); err != nil {
				t.Errorf("%s:\n%v", p.ID(), err)
			}
		case demo.KindFederation, demo.KindGateway:
			if _, err := config.Load(path); err != nil {
				t.Errorf("%s:\n%v", p.ID(), err)
			}
		case demo.KindService:
		}
	}
	info, err := os.Stat(filepath.Join(dir, plan.Clusters[0].Name))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of keys is open to others: %v, %v", info.Mode(), err)
	}
}

func TestPlanNamesEveryProcessOnce(t *testing.T) {
	plan, err := demo.NewPlan(t.TempDir(), 20*time.Millisecond, ports())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	kinds := map[demo.Kind]int{}
	for _, p := range plan.Processes() {
		if seen[p.ID()] {
			t.Errorf("two processes are %s", p.ID())
		}
		seen[p.ID()] = true
		kinds[p.Kind]++
	}
	if kinds[demo.KindCA] != 2 || kinds[demo.KindFederation] != 3 || kinds[demo.KindGateway] != 4 || kinds[demo.KindService] != 8 {
		t.Errorf("processes by kind: %v", kinds)
	}
	for _, pair := range [][2]string{{"aws-us-east-1", "gcp-us-central1"}, {"aws-us-east-1", "onprem-ams"}, {"gcp-us-central1", "onprem-ams"}} {
		if plan.OneWay(pair[0], pair[1]) != plan.OneWay(pair[1], pair[0]) {
			t.Errorf("%v: the distance depends on the direction", pair)
		}
	}
}
