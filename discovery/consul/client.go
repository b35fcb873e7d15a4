package consul

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// fetchers bounds the reads of services at once: an agent allows 200
	// connections a client by default, and there are other users.
	fetchers = 16
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

// newClient makes a client that takes nothing from the environment, though
// consul/api would: neither address nor token, namespace or proxy.
func (c Config) newClient() (*api.Client, *http.Client, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, nil, err
	}
	httpClient := &http.Client{Transport: &edge{
		config: c,
		next: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: fetchers + 2, // and the two watches: none is closed between two queries
			MaxConnsPerHost:     2 * (fetchers + 2),
			IdleConnTimeout:     2 * c.Wait,
		},
	}}
	client, err := api.NewClient(&api.Config{
		Address: c.Address, Scheme: c.Scheme, Datacenter: c.Datacenter, HttpClient: httpClient,
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
	config Config
	next   *http.Transport
}

// RoundTrip sets the token as it is in its file now, and bounds the answer.
func (e *edge) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := e.config.token()
	if err != nil {
		return nil, fmt.Errorf("read the token file: %w", err)
	}
	req = req.Clone(req.Context())
	req.Header.Del(tokenHeader)
	if token != "" {
		req.Header.Set(tokenHeader, token)
	}
	q := req.URL.Query()
	q.Del("ns") // of the environment
	q.Del("partition")
	req.URL.RawQuery = q.Encode()
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

// token reads the ACL token, "" without a file.
func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}
