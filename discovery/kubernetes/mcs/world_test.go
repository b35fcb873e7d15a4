package mcs_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
)

const within = 90 * time.Second

var (
	exportsGVR = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}
	importsGVR = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}
	entriesGVR = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
)

// federation is one in memory: what a Sync is told, and what it put.
type federation struct {
	mu      sync.Mutex
	state   mcs.State
	err     error
	foreign map[string]bool
	writes  int
	kick    []func()
}

func (f *federation) State() (mcs.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Exports = maps.Clone(s.Exports)
	return s, f.err
}

func (f *federation) PutExport(_ context.Context, e mcs.Export) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writes++; f.foreign[e.Service.String()] {
		return mcs.ErrForeign
	}
	if f.state.Exports == nil {
		f.state.Exports = map[string]mcs.Export{}
	}
	f.state.Exports[e.Name] = e
	f.woken()
	return nil
}

func (f *federation) DeleteExport(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	delete(f.state.Exports, name)
	return nil
}

func (f *federation) woken() {
	for _, k := range f.kick {
		k()
	}
}

// set changes what the federation says.
func (f *federation) set(change func(*mcs.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	f.woken()
}

func (f *federation) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.woken()
}

// exported are the services that are exported, and to whom.
func (f *federation) exported() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, e := range f.state.Exports {
		out = append(out, fmt.Sprintf("%s%v", e.Service, e.To))
	}
	slices.Sort(out)
	return out
}

// world is a namespace of the shared control plane and a federation.
type world struct {
	*kubetest.ControlPlane
	t         *testing.T
	namespace string
	fed       *federation
	// ahead is by how much the clock of what runs is ahead.
	ahead atomic.Int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := plane(t)
	return &world{ControlPlane: c, t: t, namespace: c.Namespace(t, nil), fed: &federation{foreign: map[string]bool{}}}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// config does everything, in the world's namespace, under a mark of its own.
func (w *world) config() mcs.Config {
	return mcs.Config{
		Connection: kubeapi.Connection{Server: w.Server(), TokenFile: kubetest.TokenFile(w.t, w.AdminToken()), TLS: kubeapi.TLS{CAFile: w.CAFile()}},
		Owner:      w.namespace, Namespaces: []string{w.namespace}, Lease: mcs.Lease{Namespace: w.namespace},
		Exports: &mcs.Exports{}, Imports: &mcs.Imports{Hold: time.Second}, ServiceEntries: &mcs.ServiceEntries{},
	}
}

// running is a Sync that runs.
type running struct {
	*mcs.Sync
	stop func()
}

func (w *world) run(conf mcs.Config, identity string) *running {
	w.t.Helper()
	s, err := mcs.New(mcs.Options{Config: conf, Federation: w.fed, Identity: identity, Now: func() time.Time {
		return time.Now().Add(time.Duration(w.ahead.Load()))
	}})
	w.must(err)
	w.fed.set(func(*mcs.State) { w.fed.kick = append(w.fed.kick, s.Kick) })
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return &running{s, stop}
}

// until polls.
func (w *world) until(what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) service(name string, edit func(*corev1.Service)) {
	w.t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if edit != nil {
		edit(s)
	}
	_, err := w.Client().CoreV1().Services(w.namespace).Create(w.t.Context(), s, metav1.CreateOptions{})
	w.must(err)
}

func (w *world) export(name string, annotations map[string]string) {
	w.t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}}}
	u.SetAPIVersion("multicluster.x-k8s.io/v1beta1")
	u.SetKind("ServiceExport")
	u.SetAnnotations(annotations)
	_, err := w.Dynamic().Resource(exportsGVR).Namespace(w.namespace).Create(w.t.Context(), u, metav1.CreateOptions{})
	w.must(err)
}

// conditions are a ServiceExport's, as "Type=Status/Reason", and their messages.
func (w *world) conditions(name string) (map[string]string, map[string]string) {
	w.t.Helper()
	u, err := w.Dynamic().Resource(exportsGVR).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	w.must(err)
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	is, messages := map[string]string{}, map[string]string{}
	for _, item := range list {
		c := item.(map[string]any)
		is[c["type"].(string)] = c["status"].(string) + "/" + c["reason"].(string)
		messages[c["type"].(string)] = c["message"].(string)
	}
	return is, messages
}

func (w *world) wantConditions(what, name, valid, ready, conflict string) {
	w.t.Helper()
	want := map[string]string{"Valid": valid, "Ready": ready, "Conflict": conflict}
	w.until(what, func() error {
		if got, messages := w.conditions(name); !maps.Equal(got, want) {
			return fmt.Errorf("%v, %v", got, messages)
		}
		return nil
	})
}

func (w *world) get(gvr schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	return w.Dynamic().Resource(gvr).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
}

// billing is an import that speaks HTTP, orders one that does not.
func (w *world) billing() mcs.Import {
	return mcs.Import{
		Service:  catalog.MustServiceName("billing." + w.namespace),
		Ports:    []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
		Clusters: []catalog.ClusterName{"east", "north"},
	}
}

func (w *world) orders() mcs.Import {
	return mcs.Import{
		Service:  catalog.MustServiceName("orders." + w.namespace),
		Ports:    []catalog.Port{{Name: "db", Protocol: catalog.TCP}, {Name: "admin", Protocol: catalog.HTTP}, {Name: "dns", Protocol: catalog.UDP}},
		Clusters: []catalog.ClusterName{"east"},
	}
}

func gateway(name, ip string, ready bool, more ...mcs.Way) mcs.Gateway {
	return mcs.Gateway{Name: name, Zone: "a", Ready: ready, Ways: append([]mcs.Way{{Address: at(ip, 7080)}}, more...)}
}

func at(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}

var errLost = errors.New("the federation is away")

// firstSnapshot runs a source until it publishes.
func firstSnapshot(t *testing.T, s interface {
	Run(context.Context, func(*catalog.Snapshot)) error
},
) *catalog.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var first *catalog.Snapshot
	if err := s.Run(ctx, func(snap *catalog.Snapshot) {
		if first == nil {
			first = snap
			cancel()
		}
	}); err != nil || first == nil {
		t.Fatal("nothing published: ", err)
	}
	return first
}
