package mcs

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

func TestCoversAndOverlay(t *testing.T) {
	parse := func(s string) (m map[string]any) {
		if err := json.Unmarshal([]byte(s), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	have := parse(`{"a":1,"spec":{"ports":[{"port":80,"nodePort":3}],"type":"X"},"none":null}`)
	for want, is := range map[string]bool{
		`{}`:                               true,
		`{"a":1}`:                          true,
		`{"a":2}`:                          false,
		`{"b":1}`:                          false,
		`{"none":[]}`:                      true,
		`{"empty":[]}`:                     true,
		`{"spec":{"ports":[{"port":80}]}}`: true,
		`{"spec":{"ports":[{"port":81}]}}`: false,
		`{"spec":{"ports":[{"port":80},{"port":81}]}}`: false,
		`{"spec":{"ports":[]}}`:                        false,
		`{"spec":[]}`:                                  false,
		`{"a":{"b":1}}`:                                false,
	} {
		if covers(have, parse(want)) != is {
			t.Errorf("covers %s: %v", want, !is)
		}
	}
	got := overlay(have, parse(`{"spec":{"ports":[{"port":81}],"new":{"x":1}}}`))
	if want := parse(`{"a":1,"none":null,"spec":{"ports":[{"port":81}],"type":"X","new":{"x":1}}}`); !reflect.DeepEqual(got, want) {
		t.Errorf("overlay %v", got)
	}
	if have["spec"].(map[string]any)["new"] != nil {
		t.Error("overlay has changed what it was given")
	}
}

func TestConditionsKeepTheirTime(t *testing.T) {
	e := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "web", "generation": int64(2)}}}
	want := []condition{{condValid, true, reasonValid, ""}, {condReady, false, reasonPending, "soon"}}
	at := func(s int64) metav1.Time { return metav1.NewTime(time.Unix(s, 0)) }
	first := withConditions(e, want, at(0))
	if first == nil || withConditions(first, want, at(60)) != nil {
		t.Fatal("written twice, or never")
	}
	foreign := map[string]any{"type": "Other", "status": "True"}
	list, _, _ := unstructured.NestedSlice(first.Object, "status", "conditions")
	if err := unstructured.SetNestedSlice(first.Object, append(list, foreign), "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	want[1].message = "not so soon"
	second := withConditions(first, want, at(60))
	want[1] = condition{condReady, true, reasonExported, ""}
	third := withConditions(second, want, at(120))
	times := func(u *unstructured.Unstructured) string {
		var out []string
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		for _, item := range list {
			c := item.(map[string]any)
			out = append(out, fmt.Sprint(c["type"], " ", c["lastTransitionTime"]))
		}
		return strings.Join(out, ", ")
	}
	if got := times(second); got != "Other <nil>, Valid 1970-01-01T00:00:00Z, Ready 1970-01-01T00:00:00Z" {
		t.Errorf("another message: %s", got)
	}
	if got := times(third); got != "Other <nil>, Valid 1970-01-01T00:00:00Z, Ready 1970-01-01T00:02:00Z" {
		t.Errorf("another status: %s", got)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	c := Config{Owner: "o"}
	seen := map[string]bool{}
	for _, n := range [][2]string{{"shop", "web"}, {"shop-web", "x"}, {"shop", "web-x"}, {long, long}, {long, long[:62] + "b"}} {
		name := c.exportName(n[0], n[1])
		if _, err := catalog.ParseClusterName(name); err != nil || seen[name] {
			t.Errorf("%v is %q: %v", n, name, err)
		}
		seen[name] = true
	}
	if c.exportName("a", "b") == (Config{Owner: "p"}).exportName("a", "b") {
		t.Error("two owners, one name")
	}
	for _, n := range []string{"web", long, long[:56]} {
		if _, err := catalog.ParseClusterName(derived(n)); err != nil {
			t.Error(err)
		}
	}
	if derived(long) == derived(long[:62]+"b") {
		t.Error("two imports, one Service")
	}
}

// The numbers of ports: by configuration, as they were, 80, the listener's; no two alike.
func TestNumbers(t *testing.T) {
	name := catalog.MustServiceName("a.b")
	im := Import{Service: name, Ports: []catalog.Port{
		{Name: "admin", Protocol: catalog.HTTP},
		{Name: "db", Protocol: catalog.TCP},
		{Name: "default", Protocol: catalog.GRPC},
		{Name: "dns", Protocol: catalog.UDP},
		{Name: "lost", Protocol: catalog.TCP},
		{Name: "was", Protocol: catalog.TCP},
	}}
	gateways := []Gateway{{Name: "g", Ready: true, Ways: []Way{
		{Address: netip.MustParseAddrPort("10.0.0.1:7080")},
		{Address: netip.MustParseAddrPort("10.0.0.1:5432"), Service: name, Port: "db"},
		{Address: netip.MustParseAddrPort("[fe80::1]:1"), Service: name, Port: "lost"},
		{Address: netip.MustParseAddrPort("10.0.0.1:9000"), Service: catalog.MustServiceName("other.b")},
	}}}
	c := Config{Imports: &Imports{Ports: []PortNumber{{Service: name, Port: "admin", Number: 80}}}}
	m, ok := c.make(im, gateways, nil, "s", map[string]uint16{"was": 99})
	var got []string
	for _, n := range m.numbers {
		got = append(got, fmt.Sprint(n.Name, "=", n.number))
	}
	if want := "admin=80 db=5432 default=7080 was=99"; !ok || strings.Join(got, " ") != want {
		t.Errorf("numbers %v, want %s", got, want)
	}
	if len(m.places) != 1 || m.places[0].numbers["default"] != 7080 || len(m.places[0].numbers) != 2 {
		t.Errorf("places %+v", m.places)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	const text = `
server: https://a
owner: Not a label
namespaces: [Shop]
exports: {to: ["*", "A B"]}
imports: {hold: 48h, ports: [{number: 0}, {service: a.b, number: 1}, {service: a.b, number: 2}]}
service_entries: {suffix: mesh..x}
`
	var conf Config
	err := strictyaml.DecodeValid("sync.yaml", []byte(text), &conf, func() error { return conf.Validate() })
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"owner: must be a DNS label", "namespaces[0]", "lease.namespace: must be a DNS label", "exports.to[1]", "imports.hold", "imports.ports[0].service: is missing",
		"imports.ports[0].number", "imports.ports[2]: the port is given twice", "service_entries.suffix",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
}
