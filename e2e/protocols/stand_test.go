package protocols_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// pair is two clusters in two trust domains; every service runs in the west,
// every caller in the east.
type pair struct {
	*stand.Stand
	east, west *stand.Cluster

	mu       sync.Mutex
	services []stand.Service
}

// newPair starts the two clusters; ways are the east's TCP ways in by name, all
// to a service of the same name.
func newPair(t *testing.T, ways ...string) *pair {
	t.Helper()
	tcp := map[string]string{}
	for _, w := range ways {
		tcp[w] = w + ".default"
	}
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test", TCP: tcp},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	return &pair{Stand: s, east: s.Clusters[0], west: s.Clusters[1]}
}

// serve adds a service to the west's catalog.
func (p *pair) serve(t *testing.T, name, protocol string, address netip.AddrPort) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.services = append(p.services, stand.Service{
		Name: name + ".default", Port: "main", Protocol: protocol, Addresses: []string{address.String()},
	})
	p.west.WriteCatalog(t, p.services...)
}

// way is the east's TCP way in to a service.
func (p *pair) way(name string) string { return p.east.Gateways[0].TCP[name].String() }

// http is the east's HTTP way in.
func (p *pair) http() string { return p.east.Gateways[0].HTTP.String() }

// listen is a loopback listener that ends with the test.
func listen(t *testing.T) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).AddrPort()
}

// serveConns handles every connection of a listener in its own goroutine.
func serveConns(ln net.Listener, handle func(*net.TCPConn)) {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go handle(c.(*net.TCPConn))
		}
	}()
}
