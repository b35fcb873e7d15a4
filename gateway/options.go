package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/estate"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
)

// TableSource brings route tables from the own federation. Run blocks until ctx
// ends, reconnects by itself, and calls publish for each table in the order in
// which the federation wrote them; publish does not block for long and may
// refuse a table (older, invalid), which the gateway reports.
type TableSource interface {
	Run(ctx context.Context, publish func(*route.Table)) error
}

// ReportSink takes the gateway's report to the own federation. Send is called
// about once a second and never twice at once; a report that cannot be sent is
// dropped, the next one replaces it.
type ReportSink interface {
	Send(ctx context.Context, report *route.Report) error
}

// ShareSink is a ReportSink whose answers say what this gateway may use of the budgets
// that the cluster's gateways share. Exchange is Send with the answer, which is nil where
// the federation gave none.
type ShareSink interface {
	ReportSink
	Exchange(ctx context.Context, report *route.Report) (*route.Shares, error)
}

// Options are what a Gateway is made of.
type Options struct {
	// Config is used with its defaults filled in.
	Config Config
	// Cluster and Locality are the own ones.
	Cluster  catalog.ClusterName
	Locality catalog.Locality
	// Identity holds the gateway's SVID: <cluster id>/gateway/<name>.
	Identity *identity.Source
	// NoIdentityCache keeps keys and certificates of service meshes off the disk.
	NoIdentityCache bool
	// Tables is where route tables come from; nil serves from disk alone.
	Tables TableSource
	// Reports takes the reports; nil drops them.
	Reports ReportSink
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registry receives the metrics and is what the admin listener serves; nil
	// makes a private one.
	Registry *prometheus.Registry
	// Estate is what the gateway opens through and hands to a successor, and has of a
	// predecessor; nil: it has neither. The Gateway closes it.
	Estate *estate.Estate
	// Build names the build in reports.
	Build string
	// PacketConn replaces the UDP socket of the link port, which then has no TLS lane;
	// the Gateway closes it.
	PacketConn net.PacketConn
	// Listen and Dial replace the network of TCP listeners and of connections to
	// endpoints (a simulated network, listeners inherited from a parent process).
	Listen func(network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolve replaces the name resolution of peers' gateways.
	Resolve func(ctx context.Context, hostport string) (net.Addr, error)
}

// Addrs are the addresses that a Gateway listens on, with the ports that the
// system chose for port 0. Those of listeners that are off are not valid.
type Addrs struct {
	Link, HTTP, Admin, Control netip.AddrPort
	// DNS is for UDP and TCP.
	DNS netip.AddrPort
	// Each is in the order of its listeners in Config.
	TCP, UDP, MTLS, SNI, Proxy []netip.AddrPort
}
