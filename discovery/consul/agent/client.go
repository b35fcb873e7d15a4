package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// maxAnswer bounds one answer: the checks of a million instances.
	maxAnswer = 1 << 30
	// dialTimeout and keepAlive find a host that is gone while a query blocks.
	dialTimeout = 5 * time.Second
	keepAlive   = 15 * time.Second
)

// The headers that are read or written besides consul/api.
const (
	tokenHeader   = "X-Consul-Token"
	leaderHeader  = "X-Consul-Knownleader"
	contactHeader = "X-Consul-Lastcontact"
	indexHeader   = "X-Consul-Index"
)

// View is the part of Consul that a client sees. Partition and Namespace are
// Consul Enterprise's, opaque here, and sent only where they are set: other
// builds of Consul refuse requests that have them.
type View struct {
	Datacenter string
	Partition  string
	Namespace  string
}

// Options of New.
type Options struct {
	Config Config
	View   View
	// Conns bounds the connections to the agent, of which it allows a client 200
	// by default. All of them are kept for Idle, so that none is closed between
	// two queries.
	Conns int
	Idle  time.Duration
	// Requested and Connected are told of every request, and how many connections
	// there are; nil tells nobody.
	Requested func()
	Connected func(open int)
}

// New makes a client that takes nothing from the environment, though consul/api
// would: neither address nor token, namespace or proxy. The caller closes the
// idle connections of the second result.
func New(o Options) (*api.Client, *http.Client, error) {
	o.Config = o.Config.WithDefaults()
	tlsConfig, err := o.Config.tls()
	if err != nil {
		return nil, nil, err
	}
	e := &edge{opts: o}
	e.next = &http.Transport{
		DialContext:         e.dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: o.Conns,
		MaxConnsPerHost:     o.Conns,
		IdleConnTimeout:     o.Idle,
	}
	httpClient := &http.Client{
		Transport: e,
		// The token goes with every request: where an answer points to must not get it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client, err := api.NewClient(&api.Config{
		Address: o.Config.Address, Scheme: o.Config.Scheme, HttpClient: httpClient,
		Token: "none", // keeps the environment's from being taken; edge sets the real one
	})
	return client, httpClient, err
}

// tls is nil for plain HTTP. The client's certificate is read for every
// handshake, so that a rotated one needs no restart.
func (c Config) tls() (*tls.Config, error) {
	if c.Scheme != "https" {
		return nil, nil
	}
	conf, err := api.SetupTLSConfig(&api.TLSConfig{Address: c.TLS.ServerName, CAFile: c.TLS.CAFile})
	if err != nil {
		return nil, err
	}
	conf.MinVersion = tls.VersionTLS12
	if c.TLS.CertFile != "" {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
			return &cert, err
		}
	}
	return conf, nil
}

// edge stands between consul/api and the network.
type edge struct {
	opts Options
	next *http.Transport
	open atomic.Int64
}

// RoundTrip sets token and view, and bounds the answer.
func (e *edge) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := e.opts.Config.token()
	if err != nil {
		return nil, fmt.Errorf("read the token file: %w", err)
	}
	req = req.Clone(req.Context())
	req.Header.Del(tokenHeader)
	if token != "" {
		req.Header.Set(tokenHeader, token)
	}
	q := req.URL.Query()
	for key, value := range map[string]string{"dc": e.opts.View.Datacenter, "partition": e.opts.View.Partition, "ns": e.opts.View.Namespace} {
		q.Del(key) // of the environment
		if value != "" {
			q.Set(key, value)
		}
	}
	req.URL.RawQuery = q.Encode()
	if e.opts.Requested != nil {
		e.opts.Requested()
	}
	resp, err := e.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	// consul/api takes a missing header for "no leader" and stops at the first
	// that it cannot read. A proxy that strips headers says neither yes nor no; an
	// index that is no number is none.
	if _, err := strconv.ParseUint(resp.Header.Get(indexHeader), 10, 64); err != nil {
		resp.Header.Del(indexHeader)
	}
	for name, value := range map[string]string{leaderHeader: "true", contactHeader: "0"} {
		if resp.Header.Get(name) == "" {
			resp.Header.Set(name, value)
		}
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// CloseIdleConnections is for http.Client's method of that name.
func (e *edge) CloseIdleConnections() { e.next.CloseIdleConnections() }

func (e *edge) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext(ctx, network, address)
	if err != nil || e.opts.Connected == nil {
		return c, err
	}
	e.opts.Connected(int(e.open.Add(1)))
	return &counted{Conn: c, edge: e}, nil
}

// counted tells when a connection is closed.
type counted struct {
	net.Conn
	edge   *edge
	closed atomic.Bool
}

func (c *counted) Close() error {
	if !c.closed.Swap(true) {
		c.edge.opts.Connected(int(c.edge.open.Add(-1)))
	}
	return c.Conn.Close()
}

// bounded fails, rather than ends, where an answer is too long: half an answer
// must not be taken for one.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", int64(maxAnswer))
	}
	return n, err
}
