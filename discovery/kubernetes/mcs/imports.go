package mcs

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
)

// Labels of what is made, as KEP-1645 and Kubernetes name them.
const (
	mcsServiceLabel = "multicluster.kubernetes.io/service-name"
	serviceLabel    = "kubernetes.io/service-name"
	managerLabel    = "endpointslice.kubernetes.io/managed-by"
	byLabel         = "app.kubernetes.io/managed-by"
	product         = "isthmus"
)

// object is one that is to be.
type object struct {
	kind kind
	*unstructured.Unstructured
}

// made is what is made of one import.
type made struct {
	im      Import
	service string // the name of its Service
	places  []place
	numbers []number
}

// make decides what is made of an import; it is false where nothing of it can be called.
// held are places of gateways that are not known, have the numbers that its Service has now.
func (c Config) make(im Import, gateways []Gateway, held []place, service string, have map[string]uint16) (made, bool) {
	m := made{im: im, service: service, places: with(places(im, gateways), held, im.Ports)}
	m.numbers = c.numbers(im, m.places, have)
	return m, len(m.numbers) > 0
}

// derived is the name of the Service of an import that has no plain name.
func derived(name string) string {
	const prefix = "isthmus-"
	if len(prefix)+len(name) <= catalog.MaxLabelLen {
		return prefix + name
	}
	sum := sha256.Sum256([]byte(name))
	end := "-" + hex.EncodeToString(sum[:4])
	return prefix + name[:catalog.MaxLabelLen-len(prefix)-len(end)] + end
}

// base is an object with the mark. parent, where it has one, takes it along when it is
// deleted.
func (c Config) base(k kind, name string, of catalog.ServiceName, parent *unstructured.Unstructured) object {
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{
		"name": name, "namespace": of.Namespace(),
		"labels": map[string]any{kubernetes.OwnerLabel: c.Owner, byLabel: product, mcsServiceLabel: of.Name()},
	}}}
	u.SetAPIVersion(k.resource.GroupVersion().String())
	u.SetKind(k.name)
	if parent != nil {
		u.Object["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{
			"apiVersion": parent.GetAPIVersion(), "kind": parent.GetKind(), "name": parent.GetName(), "uid": string(parent.GetUID()),
		}}
	}
	return object{k, u}
}

func (m made) ports(entry bool) []any {
	var ports []any
	for _, n := range m.numbers {
		p := map[string]any{"name": n.Name, "port": int64(n.number), "protocol": "TCP"}
		switch n.Protocol {
		case catalog.HTTP:
			p["appProtocol"] = "http"
		case catalog.GRPC:
			p["appProtocol"] = "kubernetes.io/h2c"
		default: // bytes
		}
		if entry {
			p = map[string]any{"name": n.Name, "number": int64(n.number), "protocol": istioProtocol(n.Protocol)}
		}
		ports = append(ports, p)
	}
	return ports
}

func istioProtocol(p catalog.Protocol) string {
	switch p {
	case catalog.HTTP:
		return "HTTP"
	case catalog.GRPC:
		return "GRPC"
	case catalog.TLS:
		return "TLS"
	default:
		return "TCP"
	}
}

// serviceImport is the import in the API's words; ips are those of its Service, once it
// has any.
func (c Config) serviceImport(k kind, m made, ips []any) object {
	o := c.base(k, m.im.Service.Name(), m.im.Service, nil)
	spec := map[string]any{"type": "ClusterSetIP", "ports": m.ports(false)}
	if len(ips) > 0 {
		spec["ips"] = ips
	}
	o.Object["spec"] = spec
	return o
}

// clusters is the status of a ServiceImport.
func (m made) clusters() []any {
	var list []any
	for _, name := range m.im.Clusters {
		list = append(list, map[string]any{"cluster": string(name)})
	}
	return list
}

// serviceOf is the Service that gives an import its address. It selects nothing: its
// slices are written here.
func (c Config) serviceOf(m made, parent *unstructured.Unstructured) object {
	o := c.base(kindService, m.service, m.im.Service, parent)
	o.Object["spec"] = map[string]any{"ports": m.ports(false)}
	return o
}

// slices point at the gateways: one for each address, since the ports of one slice have
// one number each.
func (c Config) slices(m made, parent *unstructured.Unstructured) []object {
	var all []object
	for _, p := range m.places {
		o := c.base(kindSlice, m.service+"-"+p.digest(), m.im.Service, parent)
		labels := o.GetLabels()
		labels[serviceLabel], labels[managerLabel], labels[gatewayLabel] = m.service, product, p.gateway
		o.SetLabels(labels)
		var ports []any
		for _, n := range m.numbers {
			if at, ok := p.numbers[n.Name]; ok {
				ports = append(ports, map[string]any{"name": n.Name, "port": int64(at), "protocol": "TCP"})
			}
		}
		endpoint := map[string]any{
			"addresses":  []any{p.address.String()},
			"conditions": map[string]any{"ready": p.ready},
		}
		if p.zone != "" {
			endpoint["zone"] = p.zone
		}
		o.Object["addressType"] = family(p)
		o.Object["ports"], o.Object["endpoints"] = ports, []any{endpoint}
		all = append(all, o)
	}
	return all
}

func family(p place) string {
	if p.address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// entry is the import as Istio knows services that are not in its cluster; it is false
// where nothing of it can be called. Of gateways that are not known it has what it had:
// who may write slices is not by that one who may write entries.
func (c Config) entry(m made, parent *unstructured.Unstructured, ips []any, had *unstructured.Unstructured) (object, bool) {
	o := c.base(kindEntry, m.service, m.im.Service, parent)
	var endpoints, old []any
	if had != nil {
		old, _, _ = unstructured.NestedSlice(had.Object, "spec", "endpoints") // none: nothing to hold
	}
	for _, p := range m.places {
		if p.unheard {
			i := slices.IndexFunc(old, func(e any) bool {
				m, _ := e.(map[string]any)
				return m["address"] == p.address.String()
			})
			if i >= 0 {
				endpoints = append(endpoints, old[i])
			}
			continue
		}
		if !p.ready {
			continue
		}
		ports := map[string]any{}
		for _, n := range m.numbers {
			if at, ok := p.numbers[n.Name]; ok {
				ports[n.Name] = int64(at)
			}
		}
		endpoints = append(endpoints, map[string]any{"address": p.address.String(), "ports": ports})
	}
	o.Object["spec"] = map[string]any{
		"hosts":      []any{m.im.Service.String() + "." + c.ServiceEntries.Suffix},
		"location":   "MESH_INTERNAL",
		"resolution": "STATIC",
		"ports":      m.ports(true),
		"endpoints":  endpoints,
	}
	if len(ips) > 0 {
		o.Object["spec"].(map[string]any)["addresses"] = ips // tells TCP services apart
	}
	return o, len(endpoints) > 0
}

// serviceKey is the import that an object was made for.
func serviceKey(o *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[mcsServiceLabel]}
}
