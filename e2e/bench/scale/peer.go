package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/identity"
)

// peer is one other cluster's federation: it exports by the real exporter, and
// listens to what it is told.
type peer struct {
	world    *world
	name     string
	identity *identity.Source
	exporter *exchange.Exporter
	conns    *handover

	mu    sync.Mutex
	turn  int
	state exchange.State
}

func newPeer(v *world, n int) (*peer, error) {
	p := &peer{world: v, name: peerName(n), conns: newHandover()}
	id := clusterID(v.ca, p.name)
	p.identity = v.ca.Source(id)
	for _, i := range v.size.offeredBy(n) {
		p.state.Services = append(p.state.Services, offered(i, 1))
	}
	p.state.Gateways = []catalog.Gateway{{Name: gatewayName(0), ID: gatewayID(id, 0).String(), Addresses: []string{fmt.Sprintf("10.200.%d.%d:7443", n>>8, n&255)}}}
	var err error
	p.exporter, err = exchange.NewExporter(exchange.ExporterOptions{
		Cluster: catalog.ClusterName(p.name),
		Peer:    func(*http.Request) (catalog.ClusterName, error) { return ownCluster, nil },
	})
	if err != nil {
		return nil, err
	}
	return p, p.exporter.Set(ownCluster, p.state)
}

// serve answers the exchange on the connections that gateways hand over.
func (p *peer) serve(ctx context.Context) {
	own := clusterID(p.world.ca, ownCluster)
	srv := &http.Server{Handler: p.exporter, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		p.exporter.Close()
		_ = srv.Close()
	})
	defer stop()
	srv.TLSConfig = p.identity.ServerTLS([]string{"h2", "http/1.1"}, identity.AuthorizeIDs(own))
	_ = srv.ServeTLS(p.conns, "", "") // ends with ctx
}

// change sets one row's capacity to the time.
func (p *peer) change(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	const stride = 17
	i := p.turn * stride % len(p.state.Services)
	p.turn++
	services := slices.Clone(p.state.Services)
	s := *services[i]
	s.Rows = slices.Clone(s.Rows)
	s.Rows[0].Capacity = uint64(now.UnixNano())
	services[i] = &s
	p.state.Services = services
	return p.exporter.Set(ownCluster, p.state)
}

// listen follows what the service tells this peer, as an importer would, and
// keeps nothing of it.
func (p *peer) listen(ctx context.Context, mesh string) {
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: p.identity.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(clusterID(p.world.ca, ownCluster))),
	}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		p.follow(ctx, client, "https://"+mesh+exchange.CatalogPath+"?watch=true&epoch=0&since=0")
		retry := time.NewTimer(time.Second) // it is not ready, or gone
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
		}
	}
}

func (p *peer) follow(ctx context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", exchange.Upgrade)
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	told, said := 0, time.Now()
	for lines.Scan() {
		switch {
		case bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"service"`)):
			told++
		case bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"sync"`)):
			p.world.mu.Lock()
			p.world.tally.Told += told
			p.world.mu.Unlock()
			told = 0
		}
		if time.Since(said) >= exchange.AliveEvery {
			said = time.Now()
			if _, err := conn.Write([]byte{'\n'}); err != nil {
				return
			}
		}
	}
}

// handover is a net.Listener of connections that somebody else accepted.
type handover struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give passes one connection on, or closes it.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// tunnelled is a TLS connection whose first bytes were read ahead.
type tunnelled struct {
	*tls.Conn
	r *bufio.Reader
}

// Read reads what was read ahead first.
func (t *tunnelled) Read(b []byte) (int, error) { return t.r.Read(b) }
