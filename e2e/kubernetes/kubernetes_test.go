package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

func TestCallsFollowKubernetes(t *testing.T) {
	w := newWorld(t)
	one, two := w.pod("west-1"), w.pod("west-2")
	w.west.service("billing")
	w.west.slice(w.own, "billing", "billing-1", one, true)
	w.west.slice(w.own, "billing", "billing-2", two, true)
	w.Start()

	// Nothing is offered before it is exported.
	if _, err := w.east.Dynamic().Resource(imports).Namespace(shop).Get(t.Context(), "billing", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a ServiceImport without an export: %v", err)
	}
	w.west.export("billing")
	var address string
	begin := time.Now()
	stand.Eventually(t, within, "a ServiceImport appears in the other cluster", func() (err error) {
		address, err = w.east.where(t.Context(), "billing")
		return err
	})
	stand.Figure(t, "ServiceExport to ServiceImport with an endpoint: %.1f s", time.Since(begin).Seconds())
	w.until("a service of the other cluster is called by its import", address, "billing", "west-1", "west-2")
	w.wantEntry("billing")
	w.wantReady("billing")
	w.exportsByHand()

	w.west.slice(w.own, "billing", "billing-1", one, false)
	w.until("one pod is not ready", address, "billing", "west-2")
	w.west.slice(w.own, "billing", "billing-2", two, false)
	w.west.slice(w.own, "billing", "billing-1", one, true)
	w.until("the other one is", address, "billing", "west-1")

	w.killBoth(address)
	w.west.slice(w.own, "billing", "billing-2", two, true)
	w.west.slice(w.own, "billing", "billing-1", one, false)
	w.until("what changed after the restart arrives", address, "billing", "west-2")

	// The same name here: local pods go first, the other cluster is where they fail to.
	here := w.pod("east-1")
	w.east.service("billing")
	w.east.slice(w.own, "billing", "billing-1", here, true)
	w.until("the service is here, too", address, "billing", "east-1")
	w.east.slice(w.own, "billing", "billing-1", here, false)
	w.until("its pod here is not ready", address, "billing", "west-2")
	w.east.removeService("billing", "billing-1")
	w.until("the service here is gone", address, "billing", "west-2")

	if err := w.west.Dynamic().Resource(exports).Namespace(shop).Delete(t.Context(), "billing", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("the ServiceExport is deleted", address, "billing")
	if names, err := w.exportNames(); err != nil || !slices.Equal(names, []string{"by-hand"}) {
		t.Errorf("exports %v, %v: one by hand is left", names, err)
	}
	stand.Eventually(t, within, "the ServiceImport is withdrawn", func() error {
		_, err := w.east.Dynamic().Resource(imports).Namespace(shop).Get(t.Context(), "billing", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// exportsByHand: what an operator exports is left alone, and what he removes of a
// ServiceExport comes back.
func (w *world) exportsByHand() {
	w.T.Helper()
	if _, err := w.west.api(http.MethodPost, "/v1/exports", `{"name":"by-hand","services":["orders.shop"],"to":["east"]}`); err != nil {
		w.T.Fatal(err)
	}
	of, err := w.exportNames()
	if err != nil || len(of) != 2 {
		w.T.Fatalf("exports %v, %v", of, err)
	}
	for _, name := range of {
		if name == "by-hand" {
			continue
		}
		if _, err := w.west.api(http.MethodDelete, "/v1/exports/"+name, ""); err != nil {
			w.T.Fatal(err)
		}
		stand.Eventually(w.T, within, "the export is put back", func() error {
			_, err := w.west.api(http.MethodGet, "/v1/exports/"+name, "")
			return err
		})
	}
}

// exportNames are those that the west's federation has.
func (w *world) exportNames() (names []string, err error) {
	data, err := w.west.api(http.MethodGet, "/v1/exports", "")
	if err != nil {
		return nil, err
	}
	var page struct{ Items []struct{ Name string } }
	err = json.Unmarshal(data, &page)
	for _, e := range page.Items {
		names = append(names, e.Name)
	}
	return names, err
}

// killBoth kills both API servers while calls go on: nothing is lost.
func (w *world) killBoth(address string) {
	w.T.Helper()
	load := stand.StartLoad(w.T.Context(), 50, 10*time.Second, w.call(address, "billing"))
	w.east.KillAPIServer()
	w.west.KillAPIServer()
	stand.Eventually(w.T, within, "the federation tells that its source fails", func() error {
		states, err := w.sources(w.west)
		if err != nil || states["kubernetes"] == "ok" {
			return fmt.Errorf("%v, %w", states, err)
		}
		return nil
	})
	for _, m := range []member{w.east, w.west} {
		if err := m.StartAPIServer(); err != nil {
			w.T.Fatal(err)
		}
	}
	stand.Eventually(w.T, within, "the source is well again", func() error {
		states, err := w.sources(w.west)
		if err != nil || states["kubernetes"] != "ok" {
			return fmt.Errorf("%v, %w", states, err)
		}
		return nil
	})
	rs := load.Stop()
	stand.Figure(w.T, "both API servers killed and restored: %d calls, %d failed, answers %v", len(rs), len(rs.Failed()), rs.Who())
	if len(rs.Failed()) > 0 || rs.Who()["west-1"] != len(rs) {
		w.T.Errorf("answers %v, failures: %s", rs.Who(), rs.Errors())
	}
}

// sources are the states of a federation's sources.
func (w *world) sources(m member) (map[string]string, error) {
	data, err := m.api(http.MethodGet, "/v1/sources", "")
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []struct{ Name, State string }
	}
	states := map[string]string{}
	err = json.Unmarshal(data, &page)
	for _, s := range page.Items {
		states[s.Name] = s.State
	}
	return states, err
}

// wantEntry: Istio's own definition has validated it.
func (w *world) wantEntry(name string) {
	w.T.Helper()
	e, err := w.east.Dynamic().Resource(entries).Namespace(shop).Get(w.T.Context(), "isthmus-"+name, metav1.GetOptions{})
	if err != nil {
		w.T.Fatal(err)
	}
	hosts, _, _ := unstructured.NestedStringSlice(e.Object, "spec", "hosts")
	if len(hosts) != 1 || hosts[0] != name+"."+shop+".mesh" {
		w.T.Errorf("hosts %v", hosts)
	}
}

// wantReady: the exporter is told.
func (w *world) wantReady(name string) {
	w.T.Helper()
	stand.Eventually(w.T, within, "the ServiceExport is ready", func() error {
		e, err := w.west.Dynamic().Resource(exports).Namespace(shop).Get(w.T.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(e.Object, "status", "conditions")
		for _, c := range conditions {
			if m := c.(map[string]any); m["type"] == "Ready" && m["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", conditions)
	})
}
