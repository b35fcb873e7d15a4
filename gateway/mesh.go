package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/workload"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/consulca"
	"github.com/prometheus/client_golang/prometheus"
)

// mesh is the gateway's part in a Consul service mesh: one identity for each service
// that it stands for, and one to dial with.
type mesh struct {
	client   *consulca.Client // nil: none is joined
	services []string         // in order
	sources  map[string]*identity.Source
	dial     *identity.Source
	live     *workload.Live
}

// newMesh prepares what the configuration asks for; nothing is asked of Consul yet,
// but identities that are still good are read from disk.
func newMesh(g *Gateway) (*mesh, error) {
	live, err := workload.NewLive(g.o.Registry)
	if err != nil {
		return nil, err
	}
	m := &mesh{live: live, sources: make(map[string]*identity.Source)}
	if g.config.Consul == nil {
		return m, nil
	}
	if m.client, err = consulca.New(consulca.Options{Config: g.config.Consul.Config, Log: g.log}); err != nil {
		return nil, err
	}
	if m.dial, err = m.add(g, g.config.Consul.Service); err != nil {
		return nil, err
	}
	for _, l := range g.config.MTLS {
		if l.Identity == IdentityConsul {
			if _, err := m.add(g, l.consulService()); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(m.services)
	return m, g.o.Registry.Register(newMeshMetrics(m))
}

// add makes the identity of one service, once.
func (m *mesh) add(g *Gateway, service string) (*identity.Source, error) {
	if s := m.sources[service]; s != nil {
		return s, nil
	}
	leaf, err := m.client.Leaf(service)
	if err != nil {
		return nil, err
	}
	o := identity.Options{Feed: leaf, Log: g.log.With("service", service)}
	if !g.o.NoIdentityCache {
		folder := filepath.Join(g.config.DataDir, "consul")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("consul identities: %w", err)
		}
		o.CacheFile = filepath.Join(folder, service+".json")
	}
	source, err := identity.New(o)
	if err != nil {
		return nil, fmt.Errorf("consul identity of %s: %w", service, err)
	}
	m.sources[service] = source
	m.services = append(m.services, service)
	return source, nil
}

// The reasons of callers whom the mesh's intentions keep out, besides those of a
// handshake.
const (
	reasonConsulDenied  = "consul_denied"
	reasonConsulUnknown = "consul_unknown"
)

// stand makes a door that of a service of the mesh.
func (m *mesh) stand(o *workload.DoorOptions, service string, intentions bool) {
	o.Source, o.Form = m.sources[service], consulca.IsService
	if !intentions {
		return
	}
	o.Ask = func(ctx context.Context, leaf *x509.Certificate) error {
		err := m.client.Authorize(ctx, service, leaf)
		if err == nil {
			return nil
		}
		reason := reasonConsulUnknown
		if _, ok := errors.AsType[*consulca.DeniedError](err); ok {
			reason = reasonConsulDenied
		}
		return &workload.RefusedError{Reason: reason, Err: err}
	}
}

// identities are who the gateway is towards endpoints.
func (m *mesh) identities(own *identity.Source) *workload.Identities {
	if m.dial == nil {
		return workload.NewIdentities(own)
	}
	return workload.NewIdentities(own, m.dial)
}

// run keeps the identities, and the connections that hang on them.
func (m *mesh) run(core *group, own *identity.Source) {
	core.run("workloads", func(ctx context.Context) error { return m.live.Follow(ctx, own) })
	if m.client == nil {
		return
	}
	core.run("consul roots", m.client.Run)
	for _, service := range m.services {
		source := m.sources[service]
		core.run("consul identity of "+service, source.Run)
		core.run("workloads of "+service, func(ctx context.Context) error { return m.live.Follow(ctx, source) })
	}
}

// standing says which identities are not as they should be; "" if all are.
func (m *mesh) standing() string {
	var bad []string
	for _, service := range m.services {
		if standing, err := m.sources[service].Standing(); err != nil {
			bad = append(bad, service+": "+string(standing)+": "+err.Error())
		}
	}
	return strings.Join(bad, "; ")
}

// meshMetrics reads the identities when it is asked.
type meshMetrics struct {
	mesh              *mesh
	notAfter, overdue *prometheus.Desc
}

func newMeshMetrics(m *mesh) *meshMetrics {
	return &meshMetrics{
		mesh: m,
		notAfter: prometheus.NewDesc("isthmus_gateway_mesh_identity_not_after_seconds",
			"Unix time at which the gateway's certificate for a service of the Consul mesh expires; 0 when there is none.", []string{"service"}, nil),
		overdue: prometheus.NewDesc("isthmus_gateway_mesh_identity_renewal_overdue",
			"1 while that certificate is missing, expired or its renewal is late, else 0.", []string{"service"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *meshMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- c.notAfter
	to <- c.overdue
}

// Collect implements prometheus.Collector.
func (c *meshMetrics) Collect(to chan<- prometheus.Metric) {
	for _, service := range c.mesh.services {
		source := c.mesh.sources[service]
		until := 0.0
		if at := source.NotAfter(); !at.IsZero() {
			until = float64(at.Unix())
		}
		late := 0.0
		if _, err := source.Standing(); err != nil {
			late = 1
		}
		to <- prometheus.MustNewConstMetric(c.notAfter, prometheus.GaugeValue, until, service)
		to <- prometheus.MustNewConstMetric(c.overdue, prometheus.GaugeValue, late, service)
	}
}
