package mcs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

var (
	dbName  = catalog.MustServiceName("db.shop")
	dbKey   = types.NamespacedName{Namespace: "shop", Name: "db"}
	epoch   = time.Unix(0, 0)
	dbPorts = []catalog.Port{{Name: "default", Protocol: catalog.TCP}}
)

func dbAt(name, address string, ready bool) Gateway {
	return Gateway{Name: name, Zone: "z-" + name, Ready: ready, Ways: []Way{{Address: netip.MustParseAddrPort(address), Service: dbName}}}
}

// written are the slices that a pass makes of an import, as the API server has them.
func written(t *testing.T, held []place, gateways ...Gateway) []*unstructured.Unstructured {
	t.Helper()
	c := Config{Owner: "o", Imports: &Imports{}}
	m, ok := c.make(Import{Service: dbName, Ports: dbPorts}, gateways, held, "isthmus-db", nil)
	if !ok {
		return nil
	}
	parent := c.serviceImport(kindImport("v1beta1"), m, nil)
	var all []*unstructured.Unstructured
	for _, o := range c.slices(m, parent.Unstructured) {
		all = append(all, o.DeepCopy())
	}
	return all
}

func placesOf(all []place) string {
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprint(p.gateway, " ", p.zone, " ", p.ready, " ", p.address, " ", p.numbers["default"]))
	}
	return strings.Join(out, ", ")
}

// After a federation's restart the slices of those that it has not heard are written as
// they were, until hold is over; the time of one that is heard again begins anew.
func TestSlicesOfGatewaysThatAreNotKnownAreHeld(t *testing.T) {
	gw1, gw2, gw3 := dbAt("gw1", "10.0.0.1:5432", true), dbAt("gw2", "10.0.0.2:5433", true), dbAt("gw3", "10.0.0.3:5434", false)
	all := written(t, nil, gw1, gw2, gw3)
	const hold = time.Minute
	const second, third = "gw2 z-gw2 true 10.0.0.2 5433", "gw3 z-gw3 false 10.0.0.3 5434"
	var since map[string]time.Time
	for i, step := range []struct {
		at    time.Duration
		known []Gateway
		want  string
		again time.Duration
	}{
		{0, []Gateway{gw1, gw2, gw3}, "", 0},
		{1 * time.Second, []Gateway{gw1}, second + ", " + third, hold},
		{31 * time.Second, []Gateway{gw1, gw2}, third, hold / 2},
		{41 * time.Second, []Gateway{gw1}, second + ", " + third, hold / 3},
		{61 * time.Second, []Gateway{gw1}, second, hold * 2 / 3},
		{101 * time.Second, []Gateway{gw1}, "", 0},
		// None is known: of none it is said that it has gone, for however long.
		{200 * time.Second, nil, "gw1 z-gw1 true 10.0.0.1 5432, " + second + ", " + third, 0},
		{24 * time.Hour, nil, "gw1 z-gw1 true 10.0.0.1 5432, " + second + ", " + third, 0},
		{25 * time.Hour, []Gateway{gw1, gw3}, second, hold},
	} {
		u := findUnheard(all, step.known, since, epoch.Add(step.at), hold)
		since = u.since
		if got := placesOf(u.places[dbKey]); got != step.want || u.again != step.again {
			t.Errorf("step %d: held %q, again in %v; want %q, %v", i, got, u.again, step.want, step.again)
		}
	}

	u := findUnheard(all, []Gateway{gw1}, nil, epoch, hold)
	if again := written(t, u.places[dbKey], gw1); !slices.EqualFunc(all, again, func(a, b *unstructured.Unstructured) bool {
		return covers(a.Object, b.Object) && covers(b.Object, a.Object)
	}) {
		t.Errorf("written anew: %v\nwere %v", again, all)
	}
	// The only listener is on a gateway that was not heard yet.
	other := Gateway{Name: "gw9", Ready: true}
	if n := len(written(t, findUnheard(all, []Gateway{other}, nil, epoch, hold).places[dbKey], other)); n != 3 {
		t.Errorf("%d slices, want 3", n)
	}
	// What is called otherwise now has the same listener: one of them is enough.
	u = findUnheard(all, []Gateway{dbAt("new1", "10.0.0.1:5432", true)}, nil, epoch, hold)
	if got := with(places(Import{Service: dbName, Ports: dbPorts}, []Gateway{dbAt("new1", "10.0.0.1:5432", true)}), u.places[dbKey], dbPorts); placesOf(got) != second+", "+third+", new1 z-new1 true 10.0.0.1 5432" {
		t.Errorf("renamed: %s", placesOf(got))
	}
	if got := with(nil, u.places[dbKey], []catalog.Port{{Name: "other"}}); len(got) != 0 {
		t.Errorf("held for ports that are gone: %s", placesOf(got))
	}
}

// A slice that is not as it was written here is held for nobody.
func TestSlicesThatSomebodyChangedAreNotHeld(t *testing.T) {
	for name, change := range map[string]func(o *unstructured.Unstructured){
		"no gateway": func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{mcsServiceLabel: "db"}) },
		"another gateway": func(o *unstructured.Unstructured) {
			o.SetLabels(map[string]string{mcsServiceLabel: "db", gatewayLabel: "gwX"})
		},
		"another address": func(o *unstructured.Unstructured) {
			o.Object["endpoints"].([]any)[0].(map[string]any)["addresses"] = []any{"10.6.6.6"}
		},
		"loopback": func(o *unstructured.Unstructured) {
			o.Object["endpoints"].([]any)[0].(map[string]any)["addresses"] = []any{"127.0.0.1"}
		},
		"two endpoints": func(o *unstructured.Unstructured) {
			e := o.Object["endpoints"].([]any)
			o.Object["endpoints"] = append(e, e[0])
		},
		"no endpoints": func(o *unstructured.Unstructured) { delete(o.Object, "endpoints") },
	} {
		all := written(t, nil, dbAt("gw1", "10.0.0.1:5432", true))
		if u := findUnheard(all, nil, nil, epoch, time.Minute); len(u.places[dbKey]) != 1 {
			t.Fatalf("%s: not held as it was", name)
		}
		change(all[0])
		if u := findUnheard(all, nil, nil, epoch, time.Minute); len(u.places[dbKey]) != 0 {
			t.Errorf("%s: held %s", name, placesOf(u.places[dbKey]))
		}
	}
}

// An entry keeps of unknown gateways what it had, and takes nothing from slices.
func TestEntryKeepsWhatItHad(t *testing.T) {
	c := Config{Owner: "o", Imports: &Imports{}, ServiceEntries: &ServiceEntries{Suffix: "mesh"}}
	gw1, gw2, gw3 := dbAt("gw1", "10.0.0.1:5432", true), dbAt("gw2", "10.0.0.2:5433", true), dbAt("gw3", "10.0.0.3:5434", true)
	entry := func(held []place, had *unstructured.Unstructured, gateways ...Gateway) string {
		m, _ := c.make(Import{Service: dbName, Ports: dbPorts}, gateways, held, "isthmus-db", nil)
		o, ok := c.entry(m, &unstructured.Unstructured{}, nil, had)
		if !ok {
			return "none"
		}
		var out []string
		for _, e := range o.Object["spec"].(map[string]any)["endpoints"].([]any) {
			out = append(out, e.(map[string]any)["address"].(string))
		}
		return strings.Join(out, " ")
	}
	m, _ := c.make(Import{Service: dbName, Ports: dbPorts}, []Gateway{gw1, gw2}, nil, "isthmus-db", nil)
	had, _ := c.entry(m, &unstructured.Unstructured{}, nil, nil)
	held := findUnheard(written(t, nil, gw1, gw2, gw3), []Gateway{gw1}, nil, epoch, time.Minute).places[dbKey]
	if got := entry(held, had.Unstructured, gw1); got != "10.0.0.1 10.0.0.2" {
		t.Errorf("endpoints %s", got)
	}
	if got := entry(held, nil, Gateway{Name: "gw1"}); got != "none" {
		t.Errorf("endpoints %s of slices alone", got)
	}
}
