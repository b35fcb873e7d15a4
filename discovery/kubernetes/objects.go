package kubernetes

import (
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// key is namespace and name of a Service.
type key = types.NamespacedName

// objects is what the feeds hold, and which services their changes concern. Objects
// are not changed once they are in it.
type objects struct {
	mu         sync.Mutex
	services   map[key]*corev1.Service
	slices     map[key]map[string]*discoveryv1.EndpointSlice // by service, then name
	namespaces map[string]bool                               // that are chosen; nil chooses all
	nodes      map[string]catalog.Locality
	dirty      map[key]bool
}

func newObjects(selected bool) *objects {
	o := &objects{
		services: map[key]*corev1.Service{}, slices: map[key]map[string]*discoveryv1.EndpointSlice{},
		nodes: map[string]catalog.Locality{}, dirty: map[key]bool{},
	}
	if selected {
		o.namespaces = map[string]bool{}
	}
	return o
}

// take returns the services that changed since the last call.
func (o *objects) take() []key {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := make([]key, 0, len(o.dirty))
	for k := range o.dirty {
		keys = append(keys, k)
	}
	clear(o.dirty)
	return keys
}

// of returns what there is of a service: nil where there is none, or its namespace is
// not chosen.
func (o *objects) of(k key) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.namespaces != nil && !o.namespaces[k.Namespace] {
		return nil, nil
	}
	var all []*discoveryv1.EndpointSlice
	for _, s := range o.slices[k] {
		all = append(all, s)
	}
	return o.services[k], all
}

// nodesNow is a copy: conversions read it without the lock.
func (o *objects) nodesNow() map[string]catalog.Locality {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.nodes)
}

// lean drops what no conversion reads and what may be large.
func lean(object runtime.Object) {
	if m, err := meta.Accessor(object); err == nil {
		m.SetManagedFields(nil)
	}
}

// serviceStore is the feed of Services in one namespace, or ("") in all.
type serviceStore struct {
	*objects
	namespace string
}

func (s serviceStore) Replace(list []runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.services {
		if s.namespace == "" || k.Namespace == s.namespace {
			delete(s.services, k)
			s.dirty[k] = true
		}
	}
	for _, item := range list {
		s.put(item)
	}
}

func (s serviceStore) Put(item runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(item)
}

func (s serviceStore) put(item runtime.Object) {
	if svc, ok := item.(*corev1.Service); ok {
		lean(svc)
		k := key{Namespace: svc.Namespace, Name: svc.Name}
		s.services[k], s.dirty[k] = svc, true
	}
}

func (s serviceStore) Delete(item runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if svc, ok := item.(*corev1.Service); ok {
		k := key{Namespace: svc.Namespace, Name: svc.Name}
		delete(s.services, k)
		s.dirty[k] = true
	}
}

// sliceStore is the feed of EndpointSlices in one namespace, or ("") in all.
type sliceStore struct {
	*objects
	namespace string
}

func serviceOf(s *discoveryv1.EndpointSlice) key {
	return key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

func (s sliceStore) Replace(list []runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.slices {
		if s.namespace == "" || k.Namespace == s.namespace {
			delete(s.slices, k)
			s.dirty[k] = true
		}
	}
	for _, item := range list {
		s.put(item)
	}
}

func (s sliceStore) Put(item runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(item)
}

func (s sliceStore) put(item runtime.Object) {
	slice, ok := item.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	lean(slice)
	k := serviceOf(slice)
	s.forget(slice, k) // its label may have named another service before
	if k.Name == "" {
		return
	}
	if s.slices[k] == nil {
		s.slices[k] = map[string]*discoveryv1.EndpointSlice{}
	}
	s.slices[k][slice.Name], s.dirty[k] = slice, true
}

func (s sliceStore) Delete(item runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slice, ok := item.(*discoveryv1.EndpointSlice); ok {
		s.forget(slice, key{})
	}
}

// forget drops a slice from every service but one. Almost always its label says of
// which; only one that was relabelled has to be looked for.
func (s sliceStore) forget(slice *discoveryv1.EndpointSlice, but key) {
	drop := func(k key) bool {
		if k == but || s.slices[k][slice.Name] == nil {
			return false
		}
		delete(s.slices[k], slice.Name)
		if s.dirty[k] = true; len(s.slices[k]) == 0 {
			delete(s.slices, k)
		}
		return true
	}
	if s.slices[serviceOf(slice)][slice.Name] != nil {
		drop(serviceOf(slice))
		return
	}
	for k := range s.slices {
		if k.Namespace == slice.Namespace && drop(k) {
			return
		}
	}
}

// namespaceStore is the feed of the chosen Namespaces.
type namespaceStore struct{ *objects }

func (s namespaceStore) Replace(list []runtime.Object) {
	chosen := make(map[string]bool, len(list))
	for _, item := range list {
		if m, err := meta.Accessor(item); err == nil {
			chosen[m.GetName()] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.namespaces {
		if !chosen[name] {
			s.touch(name)
		}
	}
	for name := range chosen {
		if !s.namespaces[name] {
			s.touch(name)
		}
	}
	s.namespaces = chosen
}

func (s namespaceStore) Put(item runtime.Object)    { s.set(item, true) }
func (s namespaceStore) Delete(item runtime.Object) { s.set(item, false) }

func (s namespaceStore) set(item runtime.Object, chosen bool) {
	m, err := meta.Accessor(item)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespaces[m.GetName()] == chosen {
		return
	}
	if s.touch(m.GetName()); chosen {
		s.namespaces[m.GetName()] = true
		return
	}
	delete(s.namespaces, m.GetName())
}

func (s namespaceStore) touch(namespace string) {
	for k := range s.services {
		if k.Namespace == namespace {
			s.dirty[k] = true
		}
	}
}

// nodeStore is the feed of Nodes; of them only their place is kept.
type nodeStore struct {
	*objects
	labels Nodes
}

func (s nodeStore) place(item runtime.Object) (string, catalog.Locality) {
	m, err := meta.Accessor(item)
	if err != nil {
		return "", catalog.Locality{}
	}
	l := catalog.Locality{Region: m.GetLabels()[s.labels.RegionLabel]}
	if s.labels.ZoneLabel != "" {
		l.Zone = m.GetLabels()[s.labels.ZoneLabel]
	}
	return m.GetName(), l
}

func (s nodeStore) Replace(list []runtime.Object) {
	nodes := make(map[string]catalog.Locality, len(list))
	for _, item := range list {
		name, l := s.place(item)
		nodes[name] = l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = nodes
	s.touchAll()
}

func (s nodeStore) Put(item runtime.Object) {
	name, l := s.place(item)
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, known := s.nodes[name]; known && was == l {
		return // a heartbeat
	}
	s.nodes[name] = l
	s.touchAll()
}

// Delete does not look at services again: pods of a node that has gone are listed for
// a moment more, and where they ran does not change.
func (s nodeStore) Delete(item runtime.Object) {
	name, _ := s.place(item)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
}

func (s nodeStore) touchAll() {
	for k := range s.services {
		s.dirty[k] = true
	}
}
