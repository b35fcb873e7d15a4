package tunnel

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/identity"
)

// Options configures a [Node]. The zero value of every optional field means the
// default that its comment names.
type Options struct {
	// PacketConn is the UDP socket that listens and dials; required. Give a bare
	// *net.UDPConn: any wrapper costs segmentation offload, ECN and batching.
	// The node does not close it.
	PacketConn net.PacketConn
	// Identity holds the SVID and the bundles; required.
	Identity *identity.Source
	// Cluster and Gateway are the own names; required.
	Cluster, Gateway string
	// Handler serves what peers send; required.
	Handler Handler
	// Connections is the number of raw connections of a link, 1 to 8; default 2.
	Connections int
	// HTTPConnections is the number of HTTP/3 connections of a link, 1 to 8; default 2.
	HTTPConnections int
	// ResetKey lets a restarted process tell peers at once that their
	// connections are gone (stateless reset). It must survive the restart, be
	// secret and be unique per gateway; nil means random: peers find out by
	// their probes.
	ResetKey *[32]byte
	// Resolve turns host:port into an address of PacketConn's network; default:
	// net.DefaultResolver and *net.UDPAddr.
	Resolve func(ctx context.Context, hostport string) (net.Addr, error)
	// ProbeInterval is the time between probes; a link is dead after three
	// missed ones. Default 200 ms.
	ProbeInterval time.Duration
	// MaxStreamsPerLink bounds open inbound streams and requests of one link;
	// default 10,000.
	MaxStreamsPerLink int
	// MaxStreams bounds them over all links; default 50,000.
	MaxStreams int
	// WindowBudget bounds the receive windows of all connections together, in
	// bytes; default a quarter of the memory that the process may use.
	WindowBudget int64
	// Log receives events; nil discards them.
	Log *slog.Logger
	// Registerer takes the metrics; nil means that they are not registered.
	Registerer prometheus.Registerer
}
