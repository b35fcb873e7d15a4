package gcp

import (
	"cmp"
	"context"
	"net/netip"
	"strings"

	"cloud.google.com/go/servicedirectory/apiv1/servicedirectorypb"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The annotations that say what Service Directory has no field for.
const (
	annotationProtocol = "isthmus-protocol" // of a service, or of an endpoint
	annotationPort     = "isthmus-port"     // the port's name, of an endpoint
	annotationZone     = "isthmus-zone"     // of an endpoint
)

// entry is one service of Service Directory with its endpoints.
type entry struct {
	name      string
	meta      map[string]string
	endpoints []directoryEndpoint
}

type directoryEndpoint struct {
	name, address string
	port          int32
	annotations   map[string]string
}

func (p *project) listNamespaces(ctx context.Context, location string) ([]string, error) {
	var names []string
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		it := p.sdk.directory.ListNamespaces(ctx, &servicedirectorypb.ListNamespacesRequest{
			Parent: "projects/" + p.id + "/locations/" + location,
		})
		found, next, err := it.InternalFetch(pageSize, token)
		for _, n := range found {
			names = append(names, lastPart(n.GetName()))
		}
		return len(found), next, err
	})
	return names, err
}

// listDirectory reads a namespace as a whole: one call for its services, then
// one for the endpoints of each.
func (p *project) listDirectory(ctx context.Context, location, namespace string) ([]entry, error) {
	parent := "projects/" + p.id + "/locations/" + location + "/namespaces/" + namespace
	var services []*servicedirectorypb.Service
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		it := p.sdk.directory.ListServices(ctx, &servicedirectorypb.ListServicesRequest{Parent: parent})
		found, next, err := it.InternalFetch(pageSize, token)
		services = append(services, found...)
		return len(found), next, err
	})
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(services))
	err = each(ctx, len(services), func(ctx context.Context, i int) error {
		s := services[i]
		entries[i] = entry{name: lastPart(s.GetName()), meta: s.GetAnnotations()}
		return pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
			it := p.sdk.directory.ListEndpoints(ctx, &servicedirectorypb.ListEndpointsRequest{Parent: parent + "/services/" + entries[i].name})
			found, next, err := it.InternalFetch(pageSize, token)
			for _, e := range found {
				entries[i].endpoints = append(entries[i].endpoints, directoryEndpoint{
					lastPart(e.GetName()), e.GetAddress(), e.GetPort(), e.GetAnnotations(),
				})
			}
			return len(found), next, err
		})
	})
	return entries, err
}

// directories maps namespaces to catalog namespaces.
func (b *builder) directories(p *project, c Directory) {
	if !allows(c.Projects, p.id) {
		return
	}
	for _, location := range c.Locations {
		for _, namespace := range p.namespaces(c, location) {
			for _, e := range p.known.directories[directoryKey(location, namespace)].value {
				name, err := catalog.NewServiceName(e.name, cmp.Or(c.As, namespace))
				if err != nil || name.IsFederation() {
					b.reject(badName)
					continue
				}
				b.directory(p, c, name, location, namespace, e)
			}
		}
	}
}

func (b *builder) directory(p *project, c Directory, name catalog.ServiceName, location, namespace string, e entry) {
	protocol := c.Protocol
	if said := catalog.Protocol(strings.ToLower(e.meta[annotationProtocol])); said.Valid() {
		protocol = said
	}
	if len(e.endpoints) == 0 {
		b.declare(name, []Port{{Name: catalog.DefaultPort, Protocol: protocol}})
	}
	for _, d := range e.endpoints {
		port := Port{Name: cmp.Or(d.annotations[annotationPort], catalog.DefaultPort), Protocol: protocol}
		if said := catalog.Protocol(strings.ToLower(d.annotations[annotationProtocol])); said.Valid() {
			port.Protocol = said
		}
		address, err := netip.ParseAddr(d.address)
		if err != nil || address.Zone() != "" {
			b.reject(badAddress)
			continue
		}
		if _, err := catalog.ParseClusterName(port.Name); err != nil || d.port <= 0 || d.port > maxPort {
			b.reject(badPort)
			continue
		}
		b.add(name, port, catalog.Endpoint{
			ID:       strings.Join([]string{p.id, location, namespace, e.name, d.name}, "/"),
			Address:  netip.AddrPortFrom(address.Unmap(), uint16(d.port)),
			Locality: b.locality("regions/"+location, d.annotations[annotationZone]), Health: catalog.Unknown,
			Labels: b.labels(d.annotations),
		})
	}
}

func directoryKey(location, namespace string) string { return location + "/" + namespace }

// namespaces are those that an entry of the configuration means at a location.
func (p *project) namespaces(c Directory, location string) []string {
	if c.Namespace != "" {
		return []string{c.Namespace}
	}
	if u := p.known.namespaces[location]; u != nil {
		return u.value
	}
	return nil
}
