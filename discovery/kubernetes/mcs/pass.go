package mcs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
)

// maxErrors bounds what is told of one pass.
const maxErrors = 10

// pass is one comparison of what is to be with what is there.
type pass struct {
	*leader
	ctx        context.Context
	now        time.Time
	state      State
	services   map[types.NamespacedName]*corev1.Service
	namespaces map[string]bool
	errs       []error
	// unheard is what is held of gateways that the federation does not know.
	unheard unheard
	// again is when something that is held is due; 0 is never.
	again time.Duration
}

func (p *pass) failed(err error) {
	if err != nil && len(p.errs) < maxErrors {
		p.errs = append(p.errs, err)
	}
	if err != nil {
		p.metrics.failures.Inc()
	}
}

// selected tells whether a namespace is looked at.
func (p *pass) selected(namespace string) bool {
	return len(p.config.Namespaces) == 0 || slices.Contains(p.config.Namespaces, namespace)
}

// exports writes exports and tells ServiceExports of it.
func (p *pass) exports() {
	wants := map[types.NamespacedName]wanted{}
	names := map[string]bool{}
	list := p.index[p.export].all()
	for k, e := range list {
		if !p.selected(k.Namespace) || e.GetDeletionTimestamp() != nil {
			continue
		}
		w := p.config.wantExport(e, p.services[k])
		if wants[k] = w; w.export != nil {
			names[w.export.Name] = true
		}
	}
	for name := range p.state.Exports {
		if !names[name] {
			p.failed(p.fed.DeleteExport(p.ctx, name))
			p.metrics.writes.WithLabelValues("Export", "delete").Inc()
		}
	}
	for k, w := range wants {
		var failed error
		if w.export != nil {
			failed = p.put(*w.export)
		}
		p.tell(list[k], w, failed)
	}
}

func (p *pass) put(e Export) error {
	if now, ok := p.state.Exports[e.Name]; ok && now.equal(e) {
		return nil
	}
	p.metrics.writes.WithLabelValues("Export", "put").Inc()
	err := p.fed.PutExport(p.ctx, e)
	if err != nil {
		err = fmt.Errorf("export %s of %s: %w", e.Name, e.Service, err)
	}
	p.failed(err)
	return err
}

func (p *pass) tell(e *unstructured.Unstructured, w wanted, failed error) {
	name, _ := catalog.NewServiceName(e.GetName(), e.GetNamespace()) // of a bad one nobody says anything
	next := withConditions(e, w.conditions(p.state.Exports, failed, p.state.Conflicts[name]), metav1.NewTime(p.now))
	if next == nil {
		return
	}
	p.metrics.writes.WithLabelValues("ServiceExport", "status").Inc()
	now, err := p.dynamic.Resource(p.export.resource).Namespace(e.GetNamespace()).UpdateStatus(p.ctx, next, metav1.UpdateOptions{})
	switch {
	case err == nil:
		p.index[p.export].Put(now)
	case !apierrors.IsNotFound(err):
		p.failed(fmt.Errorf("tell ServiceExport %s: %w", keyOf(e), err))
	}
}

// imports makes what stands for imports, and removes what stands for none any more.
func (p *pass) imports() {
	p.unheard = findUnheard(slices.Collect(maps.Values(p.index[kindSlice].all())), p.state.Gateways, p.unknown, p.now, p.config.Imports.Hold)
	p.unknown = p.unheard.since
	p.lookAgain(p.unheard.again)
	want := map[types.NamespacedName]bool{}
	keep := map[kind]map[types.NamespacedName]bool{}
	for _, im := range p.state.Imports {
		k := types.NamespacedName{Namespace: im.Service.Namespace(), Name: im.Service.Name()}
		if !p.namespaces[k.Namespace] || !p.selected(k.Namespace) {
			continue
		}
		if len(want) >= maxObjects {
			p.failed(fmt.Errorf("more than %d imports: %s and those after it are left out", maxObjects, im.Service))
			break
		}
		for _, o := range p.importOne(k, im) {
			want[k] = true
			if keep[o.kind] == nil {
				keep[o.kind] = map[types.NamespacedName]bool{}
			}
			keep[o.kind][keyOf(o)] = true
		}
	}
	maps.DeleteFunc(p.gone, func(k types.NamespacedName, _ time.Time) bool { return want[k] })
	for _, kind := range p.owned() {
		for k, o := range p.index[kind].all() {
			of := serviceKey(o)
			switch {
			case keep[kind][k]:
			case !want[of] && p.held(of):
			default:
				p.remove(kind, o)
			}
		}
	}
}

// held notes that an import has gone, and tells whether that is too new to be believed.
func (p *pass) held(k types.NamespacedName) bool {
	if !p.namespaces[k.Namespace] {
		return false // nothing is called there any more
	}
	since, known := p.gone[k]
	if !known {
		since = p.now
		p.gone[k] = since
	}
	left := p.config.Imports.Hold - p.now.Sub(since)
	p.lookAgain(left)
	return left > 0
}

// lookAgain has a pass made after that time; 0 and less say nothing.
func (p *pass) lookAgain(after time.Duration) {
	if after > 0 && (p.again == 0 || after < p.again) {
		p.again = after
	}
}

// importOne makes what stands for one import, and returns what is to stay of it.
func (p *pass) importOne(k types.NamespacedName, im Import) []object {
	service := p.serviceName(k)
	have := map[string]uint16{}
	if svc := p.services[types.NamespacedName{Namespace: k.Namespace, Name: service}]; svc != nil && svc.Labels[kubernetes.OwnerLabel] == p.config.Owner {
		for _, port := range svc.Spec.Ports {
			have[port.Name] = uint16(port.Port)
		}
	}
	m, ok := p.config.make(im, p.state.Gateways, p.unheard.places[k], service, have)
	if !ok {
		return nil
	}
	ips := p.ips(k.Namespace, service)
	parent, err := p.write(p.config.serviceImport(p.imported, m, ips))
	if err != nil {
		p.failed(err)
		// What carries traffic is kept right also where its name cannot be.
		if parent = p.index[p.imported].get(k); parent == nil {
			return p.present(k)
		}
	}
	all := []object{{p.imported, parent}}
	next := append([]object{p.config.serviceOf(m, parent)}, p.config.slices(m, parent)...)
	if p.config.ServiceEntries != nil {
		had := p.index[kindEntry].get(types.NamespacedName{Namespace: k.Namespace, Name: service})
		if entry, ok := p.config.entry(m, parent, ips, had); ok {
			next = append(next, entry)
		}
	}
	for _, o := range next {
		all = append(all, o) // also where it cannot be written now
		if _, err := p.write(o); err != nil {
			p.failed(err)
			break
		}
	}
	if fresh := p.ips(k.Namespace, service); len(ips) == 0 && len(fresh) > 0 {
		if parent, err = p.write(p.config.serviceImport(p.imported, m, fresh)); err != nil {
			p.failed(err)
		}
	}
	if err == nil {
		p.failed(p.tellImport(parent, m))
	}
	return all
}

// present are the objects of an import as they are.
func (p *pass) present(of types.NamespacedName) (all []object) {
	for _, kind := range p.owned() {
		for _, o := range p.index[kind].all() {
			if serviceKey(o) == of {
				all = append(all, object{kind, o})
			}
		}
	}
	return all
}

// serviceName is plain where that is asked for and nobody else's Service bears it.
func (p *pass) serviceName(k types.NamespacedName) string {
	if p.config.Imports.PlainNames {
		if svc := p.services[k]; svc == nil || svc.Labels[kubernetes.OwnerLabel] == p.config.Owner {
			return k.Name
		}
	}
	return derived(k.Name)
}

// ips are the addresses of a Service that was made here.
func (p *pass) ips(namespace, service string) []any {
	svc := p.index[kindService].get(types.NamespacedName{Namespace: namespace, Name: service})
	if svc == nil {
		return nil
	}
	ips, _, _ := unstructured.NestedSlice(svc.Object, "spec", "clusterIPs") // none yet
	return ips
}

func (p *pass) tellImport(o *unstructured.Unstructured, m made) error {
	want := map[string]any{"clusters": m.clusters()}
	if covers(o.Object["status"], want) {
		return nil
	}
	next := o.DeepCopy()
	next.Object["status"] = want
	p.metrics.writes.WithLabelValues("ServiceImport", "status").Inc()
	now, err := p.dynamic.Resource(p.imported.resource).Namespace(o.GetNamespace()).UpdateStatus(p.ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("tell ServiceImport %s: %w", keyOf(o), err)
	}
	p.index[p.imported].Put(now)
	return nil
}

// write makes an object what it is to be, unless it is that.
func (p *pass) write(o object) (*unstructured.Unstructured, error) {
	api := p.dynamic.Resource(o.kind.resource).Namespace(o.GetNamespace())
	have := p.index[o.kind].get(keyOf(o))
	var now *unstructured.Unstructured
	var err error
	verb := "create"
	switch {
	case have == nil:
		now, err = api.Create(p.ctx, o.Unstructured, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			err = ErrForeign // or made by a predecessor a moment ago: the next pass sees it
		}
	case covers(have.Object, o.Object):
		return have, nil
	default:
		verb = "update"
		now, err = api.Update(p.ctx, &unstructured.Unstructured{Object: overlay(have.DeepCopy().Object, o.Object)}, metav1.UpdateOptions{})
	}
	p.metrics.writes.WithLabelValues(o.kind.name, verb).Inc()
	if err != nil {
		return nil, fmt.Errorf("%s %s %s: %w", verb, o.kind.name, keyOf(o), err)
	}
	p.index[o.kind].Put(now)
	return now, nil
}

// remove deletes an object that bears the mark, the very one that was seen.
func (p *pass) remove(k kind, o *unstructured.Unstructured) {
	if o.GetLabels()[kubernetes.OwnerLabel] != p.config.Owner {
		return
	}
	uid := o.GetUID()
	err := p.dynamic.Resource(k.resource).Namespace(o.GetNamespace()).Delete(p.ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	p.metrics.writes.WithLabelValues(k.name, "delete").Inc()
	if err != nil && !apierrors.IsNotFound(err) {
		p.failed(fmt.Errorf("delete %s %s: %w", k.name, keyOf(o), err))
		return
	}
	p.index[k].Delete(o)
}

func (p *pass) err() error { return errors.Join(p.errs...) }
