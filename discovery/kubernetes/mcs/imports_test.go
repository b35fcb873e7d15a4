package mcs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
)

// slices are those of an import, as "ADDRESS ready port=number,...", in order.
func (w *world) slices(name string) []string {
	w.t.Helper()
	list, err := w.Client().DiscoveryV1().EndpointSlices(w.namespace).List(w.t.Context(), metav1.ListOptions{
		LabelSelector: "multicluster.kubernetes.io/service-name=" + name,
	})
	w.must(err)
	var out []string
	for _, s := range list.Items {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s=%d", *p.Name, *p.Port))
		}
		slices.Sort(ports)
		out = append(out, fmt.Sprintf("%s %v %s", s.Endpoints[0].Addresses[0], *s.Endpoints[0].Conditions.Ready, strings.Join(ports, ",")))
	}
	slices.Sort(out)
	return out
}

func (w *world) wantSlices(what, name string, want ...string) {
	w.t.Helper()
	w.until(what, func() error {
		if got := w.slices(name); !slices.Equal(got, want) {
			return fmt.Errorf("slices %q, want %q", got, want)
		}
		return nil
	})
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestImportsBecomeServiceImports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	orders := w.orders()
	gw1 := gateway("gw1", "10.1.0.1", true,
		mcs.Way{Address: at("10.1.0.1", 5432), Service: orders.Service, Port: "db"},
		mcs.Way{Address: at("127.0.0.1", 9000), Service: orders.Service, Port: "admin"}) // nobody else's loopback
	w.fed.set(func(s *mcs.State) {
		s.Imports = []mcs.Import{w.billing(), orders, {Service: catalog.MustServiceName("web.nowhere"), Ports: w.billing().Ports}}
		s.Gateways = []mcs.Gateway{gw1, gateway("gw2", "10.1.0.2", true)}
	})
	conf := w.config()
	conf.Imports.Hold = time.Hour // by the clock that is moved below
	conf.Imports.Ports = []mcs.PortNumber{{Service: w.billing().Service, Number: 8080}}
	r := w.run(conf, "a")
	w.wantSlices("of what speaks HTTP", "billing", "10.1.0.1 true http=7080", "10.1.0.2 true http=7080")
	w.wantSlices("of what has a listener", "orders", "10.1.0.1 true db=5432")

	var svc *corev1.Service
	w.until("ServiceImport and Service agree", func() error {
		im, err := w.get(importsGVR, "billing")
		if err != nil {
			return err
		}
		if svc, err = w.Client().CoreV1().Services(w.namespace).Get(t.Context(), "isthmus-billing", metav1.GetOptions{}); err != nil {
			return err
		}
		ips, _, _ := unstructured.NestedStringSlice(im.Object, "spec", "ips")
		if !slices.Equal(ips, svc.Spec.ClusterIPs) || len(ips) == 0 {
			return fmt.Errorf("ips %v, %v", ips, svc.Spec.ClusterIPs)
		}
		if got := text(im.Object["status"].(map[string]any)["clusters"]); got != `[{"cluster":"east"},{"cluster":"north"}]` {
			return fmt.Errorf("clusters %s", got)
		}
		if len(svc.OwnerReferences) != 1 || svc.OwnerReferences[0].UID != im.GetUID() {
			return fmt.Errorf("owned by %v", svc.OwnerReferences)
		}
		return nil
	})
	if p := svc.Spec.Ports; len(p) != 1 || p[0].Port != 8080 || p[0].Name != "http" || *p[0].AppProtocol != "http" || len(svc.Spec.Selector) > 0 {
		t.Errorf("ports %v, selector %v", p, svc.Spec.Selector)
	}
	if _, err := w.Client().CoreV1().Services("nowhere").Get(t.Context(), "isthmus-web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("in a namespace that is not there: %v", err)
	}

	// Gateways drain and go; when all are silent, that is believed of none.
	w.fed.set(func(s *mcs.State) { s.Gateways = []mcs.Gateway{gw1, gateway("gw2", "10.1.0.2", false)} })
	w.wantSlices("one drains", "billing", "10.1.0.1 true http=7080", "10.1.0.2 false http=7080")
	w.fed.set(func(s *mcs.State) {
		s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", false), gateway("gw2", "10.1.0.2", false)}
	})
	w.wantSlices("all are silent", "billing", "10.1.0.1 true http=7080", "10.1.0.2 true http=7080")
	// What a gateway says of itself counts at once; one that is not known any more, as after
	// the federation's restart, is believed to be gone after hold.
	w.fed.set(func(s *mcs.State) { s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", true)} })
	w.wantSlices("the listener has gone", "orders")
	w.wantSlices("one is not known", "billing", "10.1.0.1 true http=7080", "10.1.0.2 true http=7080")
	w.fed.set(func(s *mcs.State) {
		s.Gateways = []mcs.Gateway{gateway("gw2", "10.1.0.2", true, mcs.Way{Address: at("10.1.0.2", 5432), Service: orders.Service, Port: "db"})}
	})
	w.wantSlices("a new listener", "orders", "10.1.0.2 true db=5432")
	w.wantSlices("now the other one is not known", "billing", "10.1.0.1 true http=7080", "10.1.0.2 true http=7080")
	w.ahead.Add(int64(conf.Imports.Hold))
	w.fed.set(func(*mcs.State) {})
	w.wantSlices("it has gone", "billing", "10.1.0.2 true http=7080")
	w.fed.set(func(s *mcs.State) { s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", true)} })
	w.wantSlices("both, till the second has gone", "billing", "10.1.0.1 true http=7080", "10.1.0.2 true http=7080")

	// What somebody changes is put right.
	svc.Spec.Ports[0].Port, svc.ResourceVersion = 81, ""
	_, err := w.Client().CoreV1().Services(w.namespace).Update(t.Context(), svc, metav1.UpdateOptions{})
	w.must(err)
	w.until("the number is back", func() error {
		now, err := w.Client().CoreV1().Services(w.namespace).Get(t.Context(), "isthmus-billing", metav1.GetOptions{})
		if err != nil || now.Spec.Ports[0].Port != 8080 {
			return fmt.Errorf("%v, %w", now.Spec.Ports, err)
		}
		return nil
	})
	w.until("no trouble", func() error { return r.Status().Err })
}

// An import that goes is withdrawn after a while, with all that was made of it; a
// federation that has just started, and knows nothing, takes nothing away.
func TestImportsThatGoAreHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conf := w.config()
	conf.Imports.Hold = 3 * time.Second
	full := func(s *mcs.State) {
		s.Imports, s.Gateways = []mcs.Import{w.billing(), w.orders()}, []mcs.Gateway{gateway("gw1", "10.1.0.1", true, mcs.Way{Address: at("10.1.0.1", 5432), Service: w.orders().Service, Port: "db"})}
	}
	w.fed.set(full)
	w.run(conf, "a")
	w.wantSlices("there", "billing", "10.1.0.1 true http=7080")
	w.wantSlices("there", "orders", "10.1.0.1 true db=5432")
	was, err := w.get(importsGVR, "billing")
	w.must(err)

	w.fed.set(func(s *mcs.State) { s.Imports, s.Gateways = nil, nil })
	time.Sleep(500 * time.Millisecond)
	w.wantSlices("held", "billing", "10.1.0.1 true http=7080")
	w.fed.set(full)
	w.wantSlices("as before", "billing", "10.1.0.1 true http=7080")
	if now, err := w.get(importsGVR, "billing"); err != nil || now.GetUID() != was.GetUID() {
		t.Errorf("the ServiceImport was made anew: %v", err)
	}

	w.fed.set(func(s *mcs.State) { s.Imports = []mcs.Import{w.orders()} })
	for _, kind := range []string{"imports", "services", "entries"} {
		w.until("withdrawn: "+kind, func() error {
			var err error
			switch kind {
			case "imports":
				_, err = w.get(importsGVR, "billing")
			case "services":
				_, err = w.Client().CoreV1().Services(w.namespace).Get(t.Context(), "isthmus-billing", metav1.GetOptions{})
			default:
				_, err = w.get(entriesGVR, "isthmus-billing")
			}
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("still there: %w", err)
			}
			return nil
		})
	}
	w.wantSlices("withdrawn", "billing")
	w.wantSlices("the other stays", "orders", "10.1.0.1 true db=5432")
}

// What others made under the same names is left alone, and that is told.
func TestObjectsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service("isthmus-billing", nil)
	w.service("orders", nil)
	conf := w.config()
	conf.Imports.PlainNames = true
	w.fed.set(func(s *mcs.State) {
		s.Imports = []mcs.Import{w.billing(), w.orders()}
		s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", true, mcs.Way{Address: at("10.1.0.1", 5432), Service: w.orders().Service, Port: "db"})}
	})
	r := w.run(conf, "a")
	names := func() (out []string) {
		list, err := w.Client().CoreV1().Services(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.OwnerLabel + "=" + w.namespace})
		w.must(err)
		for _, s := range list.Items {
			out = append(out, s.Name)
		}
		return out
	}
	w.until("plain where the name is free", func() error {
		if got := names(); !slices.Equal(got, []string{"billing", "isthmus-orders"}) {
			return fmt.Errorf("made %v", got)
		}
		return nil
	})
	w.until("no trouble", func() error { return r.Status().Err })
	r.stop()
	conf.Imports.PlainNames = false
	r = w.run(conf, "b")
	w.until("the name is taken", func() error {
		if err := r.Status().Err; err == nil || !strings.Contains(err.Error(), mcs.ErrForeign.Error()) {
			return fmt.Errorf("not told: %w", err)
		}
		return nil
	})
	foreign, err := w.Client().CoreV1().Services(w.namespace).Get(t.Context(), "isthmus-billing", metav1.GetOptions{})
	if err != nil || foreign.Labels[kubernetes.OwnerLabel] != "" {
		t.Errorf("changed: %v, %v", foreign, err)
	}
}

// The API server validates it by Istio's own definition.
func TestServiceEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fed.set(func(s *mcs.State) {
		s.Imports = []mcs.Import{w.orders()}
		s.Gateways = []mcs.Gateway{
			gateway("gw1", "10.1.0.1", true, mcs.Way{Address: at("10.1.0.1", 5432), Service: w.orders().Service, Port: "db"}),
			gateway("gw2", "10.1.0.2", false, mcs.Way{Address: at("10.1.0.2", 5432), Service: w.orders().Service, Port: "db"}),
		}
	})
	w.run(w.config(), "a")
	w.until("the entry", func() error {
		e, err := w.get(entriesGVR, "isthmus-orders")
		if err != nil {
			return err
		}
		spec := e.Object["spec"].(map[string]any)
		addresses, _, _ := unstructured.NestedSlice(spec, "addresses")
		delete(spec, "addresses")
		want := `{"endpoints":[{"address":"10.1.0.1","ports":{"admin":7080,"db":5432}}],"hosts":["orders.` + w.namespace + `.mesh"],"location":"MESH_INTERNAL",` +
			`"ports":[{"name":"db","number":5432,"protocol":"TCP"},{"name":"admin","number":80,"protocol":"HTTP"}],"resolution":"STATIC"}`
		want = strings.Replace(want, `"admin":7080,`, "", 1) // admin is not the main port: the HTTP way in does not know it
		if got := text(spec); got != want || len(addresses) == 0 {
			return fmt.Errorf("%s, addresses %v", got, addresses)
		}
		return nil
	})
}

// What is made for imports comes back by no way: the source does not read it.
func TestImportsAreNotExported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conf := w.config()
	conf.Imports.PlainNames = true
	w.fed.set(func(s *mcs.State) {
		s.Imports, s.Gateways = []mcs.Import{w.billing()}, []mcs.Gateway{gateway("gw1", "10.1.0.1", true)}
	})
	w.run(conf, "a")
	w.wantSlices("made", "billing", "10.1.0.1 true http=7080")
	w.export("billing", nil)
	w.wantConditions("its ServiceExport", "billing", "False/ImportedService", "False/Failed", noConflict)
	w.wantExports("nothing")

	source, err := kubernetes.New(kubernetes.Options{Name: "k", Config: kubernetes.Config{Connection: conf.Connection, Namespaces: []string{w.namespace}}})
	w.must(err)
	w.service("own", nil)
	_, err = w.Client().DiscoveryV1().EndpointSlices(w.namespace).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "own", Labels: map[string]string{discoveryv1.LabelServiceName: "own"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	}, metav1.CreateOptions{})
	w.must(err)
	snap := firstSnapshot(t, source)
	if snap.Len() != 1 || snap.Get(catalog.MustServiceName("own."+w.namespace)) == nil {
		t.Errorf("the source reads %v", text(snap))
	}
}
