package gateway

import (
	"context"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/admin"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/control"
	"github.com/isthmus-mesh/isthmus/gateway/httpway"
	"github.com/isthmus-mesh/isthmus/gateway/outbound"
	"github.com/isthmus-mesh/isthmus/gateway/sniway"
	"github.com/isthmus-mesh/isthmus/gateway/tcpway"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

// entrance is a way in that is served, by the field of the configuration that it is
// from.
type entrance struct {
	name string
	way  interface {
		Run(ctx context.Context) error
		StopAccepting()
	}
}

// buildWays makes what listens.
func (g *Gateway) buildWays() error {
	dialer, err := outbound.New(outbound.Options{Router: g.router, Links: g.node, Endpoints: g.endpoints, HTTP: g.origin})
	if err != nil {
		return err
	}
	carrier := &carry.Carrier{Dialer: dialer, Splicer: g.splicer}
	for _, build := range []func(*carry.Carrier) error{g.buildTCP, g.buildMTLS, g.buildSNI, g.buildHTTP, g.buildDNS, g.buildProxy} {
		if err := build(carrier); err != nil {
			return err
		}
	}
	if err := g.buildUDP(); err != nil {
		return err
	}
	controlled, err := g.listeners.controlListener(g)
	if err != nil {
		return err
	}
	if g.control, err = control.New(control.Options{
		Listener: controlled, Identity: g.o.Identity, Federation: g.federationID, Cluster: g.o.Cluster,
		Links: g.node, Joins: g.node, Trails: g.trails, Splicer: g.splicer, Account: g.account, Log: g.log,
	}); err != nil {
		return err
	}
	watched, err := g.listeners.adminListener(g)
	if err != nil {
		return err
	}
	g.admin, err = admin.New(admin.Options{
		Listener: watched, Gatherer: g.o.Registry, Conditions: g.conditions, Plan: g.board.Plan, Links: g.linkReports, Trails: g.trails, Log: g.log,
	})
	return err
}

func (g *Gateway) buildTCP(carrier *carry.Carrier) error {
	for i, l := range g.config.TCP {
		accepted, err := g.listeners.tcpListener(g, i)
		if err != nil {
			return err
		}
		name, err := catalog.ParseServiceName(l.Service)
		if err != nil {
			return err
		}
		if err := g.enterTCP(fmt.Sprintf("listen.tcp[%d]", i), tcpway.Options{
			Listener: accepted, Service: name, Port: l.Port, Caller: l.Caller, Preface: l.preface(), Carrier: carrier,
		}); err != nil {
			return err
		}
	}
	return nil
}

// buildMTLS makes the ways in of workloads that prove who they are.
func (g *Gateway) buildMTLS(carrier *carry.Carrier) error {
	for i, l := range g.config.MTLS {
		field := fmt.Sprintf("listen.mtls[%d]", i)
		accepted, err := g.listeners.mtlsListener(g, i)
		if err != nil {
			return err
		}
		o := workload.DoorOptions{Source: g.o.Identity, ALPN: l.alpn(), Allowed: l.Callers, Live: g.mesh.live}
		if l.Identity == IdentityConsul {
			g.mesh.stand(&o, l.consulService(), !g.config.Consul.IgnoreIntentions)
		}
		door, err := workload.NewDoor(o)
		if err != nil {
			return err
		}
		if l.Service == "" {
			if err := g.enterHTTP(field, httpway.Options{Listener: accepted, Door: door, Dialer: carrier.Dialer}); err != nil {
				return err
			}
			continue
		}
		name, err := catalog.ParseServiceName(l.Service)
		if err != nil {
			return err
		}
		if err := g.enterTCP(field, tcpway.Options{Listener: accepted, Service: name, Port: l.Port, Door: door, Carrier: carrier}); err != nil {
			return err
		}
	}
	return nil
}

// buildSNI makes the ways in for TLS that is carried as it is.
func (g *Gateway) buildSNI(carrier *carry.Carrier) error {
	for i, l := range g.config.SNI {
		accepted, err := g.listeners.sniListener(g, i)
		if err != nil {
			return err
		}
		fallback, err := l.fallback()
		if err != nil {
			return err
		}
		way, err := sniway.New(sniway.Options{
			Listener: accepted, Caller: l.Caller, Names: l.Names, Default: fallback, Plan: g.board.Plan,
			Carrier: carrier, Account: g.account, Sample: g.trails.Sample,
		})
		if err != nil {
			return err
		}
		g.entrances = append(g.entrances, entrance{fmt.Sprintf("listen.sni[%d]", i), way})
	}
	return nil
}

func (g *Gateway) buildHTTP(carrier *carry.Carrier) error {
	if g.config.HTTP == "" {
		return nil
	}
	accepted, err := g.listeners.httpListener(g)
	if err != nil {
		return err
	}
	return g.enterHTTP("listen.http", httpway.Options{Listener: accepted, Caller: g.config.HTTPCaller, Dialer: carrier.Dialer})
}

// enterTCP adds a way in with what all of its kind share.
func (g *Gateway) enterTCP(field string, o tcpway.Options) error {
	o.Account, o.Sample = g.account, g.trails.Sample
	way, err := tcpway.New(o)
	if err != nil {
		return err
	}
	g.entrances = append(g.entrances, entrance{field, way})
	return nil
}

// enterHTTP is enterTCP for requests.
func (g *Gateway) enterHTTP(field string, o httpway.Options) error {
	o.Identity, o.Router, o.Links, o.Endpoints = g.ownID, g.router, g.node, g.endpoints
	o.Splicer, o.Account, o.Sample, o.Requests, o.Log = g.splicer, g.account, g.trails.Sample, g.requests, g.log
	way, err := httpway.New(o)
	if err != nil {
		return err
	}
	g.entrances = append(g.entrances, entrance{field, way})
	return nil
}
