package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
)

// gateway is an own gateway as the federation sees one: it follows the table by
// the real client, reports every second, and has a control listener through
// which peers are reached.
type gateway struct {
	world    *world
	name     string
	id       string
	identity *identity.Source
	link     *client.Gateway
	control  net.Listener

	mu       sync.Mutex
	table    *route.Table
	complete bool               // of world.mu
	seen     map[uint32]bool    // marks
	rows     map[uint64]bool    // capacities
	links    []route.LinkReport // one for each peer
}

func newGateway(v *world, n int, mesh string) (*gateway, error) {
	own := clusterID(v.ca, ownCluster)
	id := gatewayID(own, n)
	g := &gateway{world: v, name: gatewayName(n), id: id.String(), identity: v.ca.Source(id), seen: make(map[uint32]bool), rows: make(map[uint64]bool)}
	var err error
	if g.link, err = client.NewGateway(client.GatewayOptions{Address: mesh, Identity: g.identity, FederationID: own}); err != nil {
		return nil, err
	}
	if g.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	for _, p := range v.peers {
		g.links = append(g.links, route.LinkReport{
			Cluster: catalog.ClusterName(p.name), Gateway: gatewayName(0), Address: "10.200.0.1:7443", Dialed: true,
			State: "up", Transport: "quic", Connections: 2, RTT: 40 * time.Millisecond, MinRTT: 39 * time.Millisecond,
		})
	}
	return g, nil
}

func (g *gateway) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = g.link.Run(ctx, g.take) })
	wg.Go(func() { g.report(ctx) })
	stop := context.AfterFunc(ctx, func() { _ = g.control.Close() })
	defer stop()
	for {
		conn, err := g.control.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { g.serveControl(conn) })
	}
}

// serveControl answers one CONNECT and hands the connection to the peer.
func (g *gateway) serveControl(conn net.Conn) {
	own := clusterID(g.world.ca, ownCluster)
	outer := tls.Server(conn, g.identity.ServerTLS([]string{"http/1.1"}, identity.AuthorizeIDs(own)))
	r := bufio.NewReader(outer)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		_ = conn.Close()
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(req.Host, "federation."), ":443")
	for _, p := range g.world.peers {
		if p.name != name {
			continue
		}
		if _, err := io.WriteString(outer, "HTTP/1.1 200 OK\r\n\r\n"); err == nil {
			p.conns.give(&tunnelled{Conn: outer, r: r})
			return
		}
	}
	_ = conn.Close()
}

func (g *gateway) report(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	started := time.Now()
	for {
		r := &route.Report{
			Gateway: catalog.Gateway{Name: g.name, ID: g.id, Addresses: []string{"10.0.0.1:7443"}},
			Control: g.control.Addr().String(), At: time.Now(), StartedAt: started, Build: "scale",
			Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}, Links: g.links,
		}
		g.mu.Lock()
		if g.table != nil {
			r.Epoch, r.Version = g.table.Epoch, g.table.Version
		}
		g.mu.Unlock()
		_ = g.link.Send(ctx, r)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take looks for marks in what has changed since the table before.
func (g *gateway) take(t *route.Table) {
	now := time.Now()
	g.mu.Lock()
	before := g.table
	g.table = t
	g.mu.Unlock()
	v := g.world
	v.mu.Lock()
	v.tally.Tables++
	k, rows, endpoints := 0, 0, 0
	for i := range t.Services {
		s := &t.Services[i]
		rows, endpoints = rows+len(s.Remote), endpoints+len(s.Endpoints)
		for before != nil && k < len(before.Services) && before.Services[k].Name.Compare(s.Name) < 0 {
			k++
		}
		var old *route.Service
		if before != nil && k < len(before.Services) && before.Services[k].Name == s.Name {
			old = &before.Services[k]
		}
		g.look(old, s, now)
	}
	done := !g.complete && len(t.Services) == v.size.Services && rows == v.size.rows() && endpoints == v.size.Endpoints
	g.complete = g.complete || done
	v.mu.Unlock()
	if done {
		v.synced()
	}
}

// look finds the marks of one service; world.mu is held.
func (g *gateway) look(old, s *route.Service, now time.Time) {
	v := g.world
	if old == nil || len(s.Endpoints) > 0 && (len(old.Endpoints) == 0 || &old.Endpoints[0] != &s.Endpoints[0]) {
		for i := range s.Endpoints {
			if w := s.Endpoints[i].Weight; w >= firstMark && !g.seen[w] {
				g.seen[w] = true
				v.local = append(v.local, arrival{weight: w, at: now})
			}
		}
	}
	if old == nil || len(s.Remote) > 0 && (len(old.Remote) == 0 || &old.Remote[0] != &s.Remote[0]) {
		for i := range s.Remote {
			for k := range s.Remote[i].Rows {
				if c := s.Remote[i].Rows[k].Capacity; c > 1 && !g.rows[c] {
					g.rows[c] = true
					v.tally.Remote = append(v.tally.Remote, now.UnixNano()-int64(c))
				}
			}
		}
	}
}
