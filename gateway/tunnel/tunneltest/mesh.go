package tunneltest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Config says what network a mesh lives on.
type Config struct {
	// Path is every path of the simulated network.
	Path Path
	// Seed makes jitter and loss repeatable.
	Seed uint64
	// Loopback uses real UDP sockets of 127.0.0.1 instead; not in a bubble.
	Loopback bool
	// TLS gives the gateways the TLS lane: of real TCP on loopback, else of simulated
	// TCP with the delay of Path, which no cut reaches.
	TLS bool
	// NoUDP begins with UDP blocked, in a mesh with TLS; see [Mesh.BlockUDP].
	NoUDP bool
}

// Mesh is a set of gateways that can reach each other.
type Mesh struct {
	// Network is the simulated network; nil on loopback.
	Network *Network

	tb       testing.TB
	config   Config
	noUDP    atomic.Bool
	tcp      *TCP // of the simulated network
	cas      map[string]*identitytest.CA
	gateways []*Gateway
}

// New returns an empty mesh that is closed when the test ends.
func New(tb testing.TB, c Config) *Mesh {
	tb.Helper()
	m := &Mesh{tb: tb, config: c, cas: make(map[string]*identitytest.CA)}
	m.noUDP.Store(c.NoUDP)
	m.tcp = NewTCP(c.Path.Delay)
	if !c.Loopback {
		m.Network = NewNetwork(c.Path, c.Seed)
	}
	tb.Cleanup(m.Close)
	return m
}

// Close stops all gateways and the network. Call it at the end of a bubble.
func (m *Mesh) Close() {
	for _, g := range m.gateways {
		g.Stop()
	}
	if m.Network != nil {
		m.Network.Close()
	}
}

// CA returns the CA of a trust domain, made when first asked for. Gateways trust
// the domains that exist when they are added.
func (m *Mesh) CA(trustDomain string) *identitytest.CA {
	ca := m.cas[trustDomain]
	if ca == nil {
		ca = identitytest.NewCA(trustDomain)
		m.cas[trustDomain] = ca
	}
	return ca
}

// BlockUDP makes every gateway's UDP packets vanish, or no longer. The mesh needs TLS.
func (m *Mesh) BlockUDP(block bool) { m.noUDP.Store(block) }

// CutTCP swallows what TLS lanes send from now on, on a simulated network.
func (m *Mesh) CutTCP() { m.tcp.cut.Store(true) }

// UDPBlocked reports whether it is.
func (m *Mesh) UDPBlocked() bool { return m.noUDP.Load() }

// blockable is a socket whose packets vanish while UDP is blocked.
type blockable struct {
	net.PacketConn
	mesh *Mesh
}

// WriteTo implements net.PacketConn.
func (b *blockable) WriteTo(p []byte, to net.Addr) (int, error) {
	if b.mesh.noUDP.Load() {
		return len(p), nil
	}
	return b.PacketConn.WriteTo(p, to)
}

// Spec describes a gateway to add.
type Spec struct {
	// Cluster and Gateway are its names. Its ID is
	// spiffe://TRUSTDOMAIN/isthmus/cluster/CLUSTER/gateway/GATEWAY.
	Cluster, Gateway string
	// TrustDomain defaults to "mesh.test".
	TrustDomain string
	// Handler serves what peers send.
	Handler tunnel.Handler
	// Identity replaces the identity that would be made.
	Identity *identity.Source
	// Options may change the options before the node is built.
	Options func(*tunnel.Options)
}

// DefaultTrustDomain is the trust domain of gateways that name none.
const DefaultTrustDomain = "mesh.test"

// Gateway is one running node and what is around it.
type Gateway struct {
	*tunnel.Node
	Spec     Spec
	Identity *identity.Source
	// Addr is where it listens.
	Addr netip.AddrPort

	mesh   *Mesh
	conn   net.PacketConn
	key    [32]byte
	cancel context.CancelFunc
	done   chan error
}

// ClusterID is the SPIFFE ID of the gateway's cluster.
func (s Spec) ClusterID() spiffeid.ID {
	return spiffeid.RequireFromPath(spiffeid.RequireTrustDomainFromString(s.trustDomain()), "/isthmus/cluster/"+s.Cluster)
}

// GatewayID is the SPIFFE ID of the gateway.
func (s Spec) GatewayID() spiffeid.ID {
	return spiffeid.RequireFromString(s.ClusterID().String() + "/gateway/" + s.Gateway)
}

func (s Spec) trustDomain() string {
	if s.TrustDomain == "" {
		return DefaultTrustDomain
	}
	return s.TrustDomain
}

// Add starts a gateway. It has no peers yet: see [Mesh.Connect].
func (m *Mesh) Add(s Spec) *Gateway {
	m.tb.Helper()
	g := &Gateway{Spec: s, mesh: m, Identity: s.Identity}
	copy(g.key[:], s.Cluster+"/"+s.Gateway+" reset key")
	if g.Identity == nil {
		ca := m.CA(s.trustDomain())
		g.Identity = ca.Source(s.GatewayID())
		for td, other := range m.cas {
			if td == s.trustDomain() {
				continue
			}
			if err := g.Identity.SetPeerBundle(other.TrustDomain(), other.BundleJSON(1)); err != nil {
				m.tb.Fatalf("trust %s: %v", td, err)
			}
		}
	}
	if m.Network != nil {
		// One host per gateway: paths are between hosts.
		g.Addr = HostPort(len(m.gateways) + 1)
	} else {
		g.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	}
	m.gateways = append(m.gateways, g)
	g.Start()
	return g
}

// Start starts the gateway's process (again), on the same address with a new
// node. Add has done so the first time.
func (g *Gateway) Start() {
	tb := g.mesh.tb
	tb.Helper()
	if g.done != nil {
		tb.Fatalf("gateway %s is already running", g.Spec.Gateway)
	}
	var overTCP *tunnel.TLSOptions
	if g.mesh.Network != nil {
		g.conn = g.mesh.Network.Listen(g.Addr)
		if g.mesh.config.TLS {
			overTCP = &tunnel.TLSOptions{Listener: g.mesh.tcp.listenAt(net.TCPAddrFromAddrPort(g.Addr)), Dial: g.mesh.tcp.DialSlow}
			g.conn = &blockable{PacketConn: g.conn, mesh: g.mesh}
		}
	} else {
		var err error
		if overTCP, err = g.listen(); err != nil {
			tb.Fatalf("listen: %v", err)
		}
	}
	o := tunnel.Options{
		PacketConn: g.conn, TLS: overTCP, Identity: g.Identity,
		Cluster: g.Spec.Cluster, Gateway: g.Spec.Gateway,
		Handler: g.Spec.Handler, ResetKey: &g.key, WindowBudget: 1 << 30,
		Resolve: func(_ context.Context, hostport string) (net.Addr, error) {
			ap, err := netip.ParseAddrPort(hostport)
			if err != nil {
				return nil, err
			}
			return UDPAddr(ap), nil
		},
	}
	if g.Spec.Options != nil {
		g.Spec.Options(&o)
	}
	node, err := tunnel.New(o)
	if err != nil {
		tb.Fatalf("tunnel.New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.Node, g.cancel, g.done = node, cancel, make(chan error, 1)
	go func() { g.done <- node.Run(ctx) }()
}

// listen opens the sockets of the loopback interface. A port that the system chose is
// tried for the other protocol; where that has it in use, another is.
func (g *Gateway) listen() (overTCP *tunnel.TLSOptions, err error) {
	const tries = 20
	chosen := g.Addr
	for range tries {
		g.Addr = chosen
		if g.mesh.config.TLS {
			listener, err := net.Listen("tcp", g.Addr.String())
			if err != nil {
				return nil, err
			}
			overTCP = &tunnel.TLSOptions{Listener: listener}
			g.Addr = listener.Addr().(*net.TCPAddr).AddrPort()
		}
		var conn *net.UDPConn
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(g.Addr)); err == nil {
			g.conn, g.Addr = conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
			if overTCP != nil {
				g.conn = &blockable{PacketConn: conn, mesh: g.mesh}
			}
			return overTCP, nil
		}
		if overTCP == nil || chosen.Port() != 0 {
			break
		}
		_ = overTCP.Listener.Close()
	}
	return nil, err
}

// Stop ends the process in order. It may be called twice.
func (g *Gateway) Stop() {
	if g.done == nil {
		return
	}
	g.cancel()
	if err := <-g.done; err != nil {
		g.mesh.tb.Errorf("gateway %s/%s: run: %v", g.Spec.Cluster, g.Spec.Gateway, err)
	}
	g.done = nil
	_ = g.conn.Close()
}

// Kill ends the process as kill -9 does: nothing more is sent.
func (g *Gateway) Kill() {
	if g.done == nil {
		return
	}
	// The socket goes first; what the node then says in parting reaches nobody.
	_ = g.conn.Close()
	g.cancel()
	if err := <-g.done; err != nil {
		g.mesh.tb.Logf("gateway %s/%s was killed: %v", g.Spec.Cluster, g.Spec.Gateway, err)
	}
	g.done = nil
}

// PeerOf describes clusters as a roster does: all gateways of the mesh in the
// given cluster, by name, ID and address.
func (m *Mesh) PeerOf(cluster string) tunnel.Peer {
	m.tb.Helper()
	p := tunnel.Peer{Cluster: cluster}
	for _, g := range m.gateways {
		if g.Spec.Cluster != cluster {
			continue
		}
		p.ID = g.Spec.ClusterID()
		p.Gateways = append(p.Gateways, tunnel.PeerGateway{
			Name: g.Spec.Gateway, ID: g.Spec.GatewayID().String(), Addresses: []string{g.Addr.String()},
		})
	}
	if p.ID.IsZero() {
		m.tb.Fatalf("no gateway in cluster %q", cluster)
	}
	return p
}

// Connect makes every gateway know those of all other clusters, and waits until
// every one of them is up.
func (m *Mesh) Connect() {
	m.tb.Helper()
	var clusters []string
	for _, g := range m.gateways {
		if !slices.Contains(clusters, g.Spec.Cluster) {
			clusters = append(clusters, g.Spec.Cluster)
		}
	}
	for _, g := range m.gateways {
		var peers []tunnel.Peer
		for _, c := range clusters {
			if c != g.Spec.Cluster {
				peers = append(peers, m.PeerOf(c))
			}
		}
		if err := g.SetPeers(peers); err != nil {
			m.tb.Fatalf("set peers of %s: %v", g.Spec.Gateway, err)
		}
	}
	for _, g := range m.gateways {
		for _, peer := range m.gateways {
			if peer.Spec.Cluster != g.Spec.Cluster {
				g.WaitLink(peer, tunnel.StateUp)
			}
		}
	}
}

// WaitLink waits until g has a link to peer that it dialed itself, in the given
// state, and returns it.
func (g *Gateway) WaitLink(peer *Gateway, state tunnel.LinkState) tunnel.LinkInfo {
	g.mesh.tb.Helper()
	return g.waitLink(peer, state, "")
}

// WaitLane is WaitLink for a link on that lane.
func (g *Gateway) WaitLane(peer *Gateway, on tunnel.Lane, state tunnel.LinkState) tunnel.LinkInfo {
	g.mesh.tb.Helper()
	return g.waitLink(peer, state, on)
}

func (g *Gateway) waitLink(peer *Gateway, state tunnel.LinkState, on tunnel.Lane) tunnel.LinkInfo {
	g.mesh.tb.Helper()
	var found tunnel.LinkInfo
	g.Wait(fmt.Sprintf("link to %s/%s %s %s", peer.Spec.Cluster, peer.Spec.Gateway, on, state), func() bool {
		for _, l := range g.Links() {
			if l.Cluster == peer.Spec.Cluster && l.Gateway == peer.Spec.Gateway && l.Dialed && l.State == state && (on == "" || l.Lane == on) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// Wait polls until ok, and fails the test after a minute (of the bubble's clock
// or the real one).
func (g *Gateway) Wait(what string, ok func() bool) {
	g.mesh.tb.Helper()
	const poll, limit = 5 * time.Millisecond, time.Minute
	for start := time.Now(); !ok(); time.Sleep(poll) {
		if time.Since(start) > limit {
			g.mesh.tb.Fatalf("%s/%s: waited a minute for: %s; links: %+v", g.Spec.Cluster, g.Spec.Gateway, what, g.Links())
		}
	}
}
