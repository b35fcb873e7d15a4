package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// Options configures a [Node]. The zero value of every optional field means the
// default that its comment names.
type Options struct {
	// PacketConn is the UDP socket that listens and dials; required. Give a bare
	// *net.UDPConn: any wrapper costs segmentation offload, ECN and batching.
	// The node does not close it.
	PacketConn net.PacketConn
	// TLS configures the lane that carries links where UDP does not come through; nil
	// turns it off.
	TLS *TLSOptions
	// Identity holds the SVID and the bundles; required.
	Identity *identity.Source
	// Cluster and Gateway are the own names, DNS labels; required.
	Cluster, Gateway string
	// Handler serves what peers send; required.
	Handler Handler
	// Join serves strangers who come to join; nil listens to none.
	Join JoinHandler
	// Connections is the number of raw connections of a dialed link, 1 to 8;
	// default 2. One of them carries control and probes, all carry streams.
	Connections int
	// HTTPConnections is the number of HTTP/3 connections of a dialed link, 1 to
	// 8; default 2.
	HTTPConnections int
	// ResetKey lets a restarted process tell peers at once that their
	// connections are gone (stateless reset). It must survive the restart, be
	// secret and be unique per gateway; nil means none: peers find out by their
	// probes.
	ResetKey *[32]byte
	// Slot is the number of this process among those of the gateway that share its
	// port; see package generation.
	Slot generation.Slot
	// Resolve turns host:port into an address of PacketConn's network; it is asked
	// for each attempt to dial. Default: net.DefaultResolver, any address of a
	// family that the socket can send to.
	Resolve func(ctx context.Context, hostport string) (net.Addr, error)
	// ProbeInterval is the time between probes, at least 10 ms; a link is dead
	// after seven missed ones. Default 100 ms.
	ProbeInterval time.Duration
	// MaxStreamsPerLink bounds open inbound streams and requests of one link;
	// default 10,000.
	MaxStreamsPerLink int
	// MaxStreams bounds them over all links; default 50,000.
	MaxStreams int
	// WindowBudget bounds the receive windows of all connections together, in
	// bytes, at least 16 MiB; default a quarter of the memory that the process
	// may use.
	WindowBudget int64
	// Log receives events; nil discards them.
	Log *slog.Logger
	// Registerer takes the metrics; nil means that they are not registered.
	Registerer prometheus.Registerer
}

// Validate returns everything that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	problem := func(field string, value any, rule string) {
		errs = append(errs, fmt.Errorf("%s: %v: %s", field, value, rule))
	}
	if o.PacketConn == nil {
		problem("packet_conn", "nil", "is required")
	}
	if o.Identity == nil {
		problem("identity", "nil", "is required")
	}
	if o.Handler == nil {
		problem("handler", "nil", "is required")
	}
	if !label(o.Cluster) {
		problem("cluster", fmt.Sprintf("%q", o.Cluster), "must be a dns label")
	}
	if !label(o.Gateway) {
		problem("gateway", fmt.Sprintf("%q", o.Gateway), "must be a dns label")
	}
	if o.Connections < 0 || o.Connections > maxConnections {
		problem("connections", o.Connections, "must be 1 to 8, or 0 for the default")
	}
	if o.HTTPConnections < 0 || o.HTTPConnections > maxConnections {
		problem("http_connections", o.HTTPConnections, "must be 1 to 8, or 0 for the default")
	}
	if o.ProbeInterval != 0 && o.ProbeInterval < minProbeInterval {
		problem("probe_interval", o.ProbeInterval, "must be at least 10ms, or 0 for the default")
	}
	if o.MaxStreamsPerLink < 0 {
		problem("max_streams_per_link", o.MaxStreamsPerLink, "must not be negative")
	}
	if o.MaxStreams < 0 {
		problem("max_streams", o.MaxStreams, "must not be negative")
	}
	if o.WindowBudget != 0 && o.WindowBudget < minBudget {
		problem("window_budget", o.WindowBudget, "must be at least 16 MiB, or 0 for the default")
	}
	return errors.Join(errs...)
}

// withDefaults returns a copy with every optional field set.
func (o Options) withDefaults() Options {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&o.Connections, defaultConnections)
	set(&o.HTTPConnections, defaultHTTPConnections)
	set(&o.MaxStreamsPerLink, defaultStreamsPerLink)
	set(&o.MaxStreams, defaultStreams)
	if o.ProbeInterval == 0 {
		o.ProbeInterval = defaultProbeInterval
	}
	if o.WindowBudget == 0 {
		o.WindowBudget = max(minBudget, usableMemory()/4)
	}
	if o.Resolve == nil {
		o.Resolve = resolver{family(o.PacketConn.LocalAddr())}.resolve
	}
	if o.TLS != nil {
		t := *o.TLS
		if t.Dial == nil {
			t.Dial = new(net.Dialer).DialContext
		}
		o.TLS = &t
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// label reports whether s is a DNS label in lower case: names of clusters and
// gateways are.
func label(s string) bool {
	if s == "" || len(s) > wire.MaxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
