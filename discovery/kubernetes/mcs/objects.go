package mcs

import (
	"maps"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// kind is one kind of object that a Sync reads and writes.
type kind struct {
	name     string
	resource schema.GroupVersionResource
}

const mcsGroup = "multicluster.x-k8s.io"

var (
	kindService = kind{"Service", schema.GroupVersionResource{Version: "v1", Resource: "services"}}
	kindSlice   = kind{"EndpointSlice", schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}}
	kindEntry   = kind{"ServiceEntry", schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}}
)

// The API's kinds, in the version that the server has.
func kindExport(version string) kind {
	return kind{"ServiceExport", schema.GroupVersionResource{Group: mcsGroup, Version: version, Resource: "serviceexports"}}
}

func kindImport(version string) kind {
	return kind{"ServiceImport", schema.GroupVersionResource{Group: mcsGroup, Version: version, Resource: "serviceimports"}}
}

// index keeps the objects of one kind, as a feed reads them and as they were written.
type index struct {
	mu sync.Mutex
	m  map[types.NamespacedName]*unstructured.Unstructured
}

func newIndex() *index { return &index{m: map[types.NamespacedName]*unstructured.Unstructured{}} }

func (x *index) Replace(list []runtime.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.m)
	for _, o := range list {
		x.put(o)
	}
}

func (x *index) Put(o runtime.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(o)
}

func (x *index) put(o runtime.Object) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
		x.m[keyOf(u)] = u
	}
}

func (x *index) Delete(o runtime.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if m, err := meta.Accessor(o); err == nil {
		delete(x.m, keyOf(m))
	}
}

// get returns one object, which is not to be changed, or nil.
func (x *index) get(k types.NamespacedName) *unstructured.Unstructured {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.m[k]
}

// all is a copy of the map; the objects are not to be changed.
func (x *index) all() map[types.NamespacedName]*unstructured.Unstructured {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.m)
}

// services keeps what is asked of every Service: whether it is there, and what it is.
type services struct {
	mu sync.Mutex
	m  map[types.NamespacedName]*corev1.Service
}

func (s *services) Replace(list []runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.m)
	for _, o := range list {
		s.put(o)
	}
}

func (s *services) Put(o runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(o)
}

func (s *services) put(o runtime.Object) {
	if svc, ok := o.(*corev1.Service); ok {
		svc.ManagedFields = nil
		s.m[keyOf(svc)] = svc
	}
}

func (s *services) Delete(o runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if svc, ok := o.(*corev1.Service); ok {
		delete(s.m, keyOf(svc))
	}
}

func (s *services) all() map[types.NamespacedName]*corev1.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m)
}

// namespaces keeps the names of those in which something can be made.
type namespaces struct {
	mu sync.Mutex
	m  map[string]bool
}

func (n *namespaces) Replace(list []runtime.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.m)
	for _, o := range list {
		n.put(o)
	}
}

func (n *namespaces) Put(o runtime.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.put(o)
}

func (n *namespaces) put(o runtime.Object) {
	m, err := meta.Accessor(o)
	switch {
	case err != nil:
	case m.GetDeletionTimestamp() != nil:
		delete(n.m, m.GetName())
	default:
		n.m[m.GetName()] = true
	}
}

func (n *namespaces) Delete(o runtime.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m, err := meta.Accessor(o); err == nil {
		delete(n.m, m.GetName())
	}
}

func (n *namespaces) all() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.m)
}

// covers tells whether have says everything that want says: what the API server has
// added beside is not looked at. Lists are compared whole, each member so.
func covers(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range want {
			if !covers(h[k], v) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if have == nil {
			ok = true // an absent list is an empty one
		}
		if !ok || len(h) != len(want) {
			return false
		}
		for i := range want {
			if !covers(h[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(have, want)
	}
}

// overlay is have with everything that want says; lists are want's.
func overlay(have, want map[string]any) map[string]any {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range want {
		if m, ok := v.(map[string]any); ok {
			old, _ := out[k].(map[string]any)
			out[k] = overlay(old, m)
			continue
		}
		out[k] = v
	}
	return out
}
