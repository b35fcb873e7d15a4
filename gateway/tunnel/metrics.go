package tunnel

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the direction label: who opened the stream or request, seen from
// here.
const (
	inboundDirection  = "in"
	outboundDirection = "out"
)

// Values of the carrier label.
const (
	carrierStream = "stream"
	carrierFlow   = "flow"
	carrierHTTP   = "http"
)

// Values of the path label of datagrams.
const (
	pathDatagram = "datagram"
	pathStream   = "stream"
)

// metrics are the instruments of a node. Series with a cluster go when the
// cluster stops being a peer, those with a gateway when its last link goes.
type metrics struct {
	links      *prometheus.GaugeVec     // cluster, lane, state
	open       *prometheus.GaugeVec     // cluster, lane, direction, carrier
	opened     *prometheus.CounterVec   // cluster, lane, direction, carrier
	refused    *prometheus.CounterVec   // cluster, direction, reason
	bytes      *prometheus.CounterVec   // cluster, direction
	handshakes *prometheus.HistogramVec // cluster, lane
	dials      *prometheus.CounterVec   // cluster, lane, result
	datagrams  *prometheus.CounterVec   // cluster, direction, path
	lost       *prometheus.CounterVec   // cluster, reason
	closed     *prometheus.CounterVec   // cluster, reason
	rtt        *prometheus.GaugeVec     // cluster, gateway
	loss       *prometheus.GaugeVec     // cluster, gateway
	bandwidth  *prometheus.GaugeVec     // cluster, gateway, direction
	probes     *prometheus.CounterVec   // result
	accepted   *prometheus.CounterVec   // result
	// reauthentications: cluster, direction, result
	reauthentications *prometheus.CounterVec
	expires           *prometheus.GaugeVec // cluster, gateway
	window            prometheus.GaugeFunc
	budget            prometheus.GaugeFunc
	inbound           prometheus.GaugeFunc
}

func newMetrics(n *Node) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "isthmus", Subsystem: "tunnel", Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "isthmus", Subsystem: "tunnel", Name: name, Help: help}, labels)
	}
	read := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "isthmus", Subsystem: "tunnel", Name: name, Help: help}, value)
	}
	return &metrics{
		links:     gauge("links", "Links, by lane (quic, tls) and state.", "cluster", "lane", "state"),
		open:      gauge("streams_open", "Streams and requests in progress.", "cluster", "lane", "direction", "carrier"),
		opened:    counter("streams_opened_total", "Streams and requests begun.", "cluster", "lane", "direction", "carrier"),
		refused:   counter("streams_refused_total", "Streams and requests refused by the tunnel or the far gateway, by status.", "cluster", "direction", "reason"),
		bytes:     counter("bytes_total", "Bytes of UDP and TCP payload on links.", "cluster", "direction"),
		datagrams: counter("datagrams_total", "Datagrams of flows received (in) and sent (out), as QUIC datagrams or, where they do not fit one, on the flow's stream.", "cluster", "direction", "path"),
		lost:      counter("datagrams_dropped_total", "Datagrams of flows that came in and were dropped, by reason.", "cluster", "reason"),
		handshakes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "isthmus", Subsystem: "tunnel", Name: "handshake_seconds",
			Help:    "Time to dial one connection: resolving, handshake and hello.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, []string{"cluster", "lane"}),
		dials:  counter("dials_total", "Attempts to dial a connection, by result (ok or the reason).", "cluster", "lane", "result"),
		closed: counter("links_closed_total", "Links that ended, by reason.", "cluster", "reason"),
		rtt:    gauge("rtt_seconds", "Smoothed round trip of probes, of the best link.", "cluster", "gateway"),
		loss:   gauge("loss_ratio", "Share of packets lost lately, of the best link.", "cluster", "gateway"),
		bandwidth: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_tunnel_bandwidth_bytes_per_second",
			Help: "Rate that bulk has reached on the best link; there is none until something has filled it.",
		}, []string{"cluster", "gateway", "direction"}),
		probes:            counter("probes_total", "Probes: sent, heard, and late (our own clock was held up).", "result"),
		accepted:          counter("connections_accepted_total", "Inbound connections after the handshake, by result (ok or the reason).", "result"),
		reauthentications: counter("reauthentications_total", "Certificates proven on live links, by who proved (in: the peer, out: we) and result (ok or the reason).", "cluster", "direction", "result"),
		expires:           gauge("certificate_end_seconds", "Unix time at which the first link to the gateway closes unless a newer certificate is proven on it.", "cluster", "gateway"),
		window:            read("window_bytes", "Receive windows granted to all connections.", func() float64 { return float64(n.windows.used.Load()) }),
		budget:            read("window_budget_bytes", "Bound of window_bytes.", func() float64 { return float64(n.windows.budget) }),
		inbound:           read("handshakes_open", "Inbound handshakes in progress, of both lanes.", func() float64 { return float64(n.gate.handshaking()) }),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.links, m.open, m.opened, m.refused, m.bytes, m.datagrams, m.lost, m.handshakes, m.dials, m.closed,
		m.rtt, m.loss, m.bandwidth, m.probes, m.accepted, m.reauthentications, m.expires, m.window, m.budget, m.inbound,
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// streamMeter counts the streams of one link, direction and carrier. It is
// resolved once per link: cheap per stream, and a stream that ends after its
// cluster's series were deleted does not bring them back.
type streamMeter struct {
	open   prometheus.Gauge
	opened prometheus.Counter
}

func (m *metrics) stream(cluster string, on Lane, direction, carrier string) streamMeter {
	return streamMeter{
		open:   m.open.WithLabelValues(cluster, string(on), direction, carrier),
		opened: m.opened.WithLabelValues(cluster, string(on), direction, carrier),
	}
}

func (s streamMeter) began() {
	s.open.Inc()
	s.opened.Inc()
}

func (s streamMeter) ended() { s.open.Dec() }

// forgetCluster deletes the series of a cluster that is no longer a peer.
func (m *metrics) forgetCluster(cluster string) {
	l := prometheus.Labels{"cluster": cluster}
	m.links.DeletePartialMatch(l)
	m.open.DeletePartialMatch(l)
	m.opened.DeletePartialMatch(l)
	m.refused.DeletePartialMatch(l)
	m.bytes.DeletePartialMatch(l)
	m.datagrams.DeletePartialMatch(l)
	m.lost.DeletePartialMatch(l)
	m.handshakes.DeletePartialMatch(l)
	m.dials.DeletePartialMatch(l)
	m.closed.DeletePartialMatch(l)
	m.rtt.DeletePartialMatch(l)
	m.loss.DeletePartialMatch(l)
	m.bandwidth.DeletePartialMatch(l)
	m.reauthentications.DeletePartialMatch(l)
	m.expires.DeletePartialMatch(l)
}

// forgetGateway deletes the series of a gateway without a link.
func (m *metrics) forgetGateway(r Remote) {
	m.rtt.DeleteLabelValues(r.Cluster, r.Gateway)
	m.loss.DeleteLabelValues(r.Cluster, r.Gateway)
	m.bandwidth.DeletePartialMatch(prometheus.Labels{"cluster": r.Cluster, "gateway": r.Gateway})
	m.expires.DeleteLabelValues(r.Cluster, r.Gateway)
}

// showBandwidth sets a rate, or takes its series away while it is not known.
func (m *metrics) showBandwidth(r Remote, direction string, rate uint64) {
	if rate == 0 {
		m.bandwidth.DeleteLabelValues(r.Cluster, r.Gateway, direction)
		return
	}
	m.bandwidth.WithLabelValues(r.Cluster, r.Gateway, direction).Set(float64(rate))
}
