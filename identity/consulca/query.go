package consulca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	// wait is how long a blocking query waits; the agent adds up to a sixteenth.
	wait = time.Minute
	// slack is what a query gets beyond its wait.
	slack = 15 * time.Second
	// maxAnswer bounds an answer: a root takes about 2 KiB.
	maxAnswer = 1 << 20
	// pace is the least time between two queries of one kind: an index may move
	// without a change.
	pace = 200 * time.Millisecond
	// backoffBase and backoffMax bound the pause after a failure, with full jitter.
	backoffBase = 250 * time.Millisecond
	backoffMax  = 10 * time.Second
	// dialTimeout and keepAlive find a host that is gone while a query blocks.
	dialTimeout = 5 * time.Second
	keepAlive   = 15 * time.Second
)

// ErrNoPermission says that the token may not have what was asked for. It is one of
// the causes of a failure, and tried again like the others: tokens get permissions.
var ErrNoPermission = errors.New("the token lacks a permission (service:write on that service)")

func (c Config) newHTTP() (*http.Client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: MaxLeaves + 1, // no connection is closed between two queries
		IdleConnTimeout:     2 * wait,
	}
	if c.Scheme == "https" {
		// The agent's own certificate is an operator's, of the web's kind: no SPIFFE ID
		// is in it, so that the rules of package identity cannot hold.
		conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName, SessionTicketsDisabled: true}
		if c.TLS.CAFile != "" {
			pem, err := os.ReadFile(c.TLS.CAFile)
			if err != nil {
				return nil, fmt.Errorf("consul ca: tls.ca_file: %w", err)
			}
			if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("consul ca: tls.ca_file: %s holds no certificate", c.TLS.CAFile)
			}
		}
		if c.TLS.CertFile != "" {
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				cert, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
				return &cert, err
			}
		}
		transport.TLSClientConfig = conf
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a key comes from the agent or not at all
	}, nil
}

// watch asks for path again and again, blocking while nothing changes, until ctx
// ends. got takes every answer, also one that says what the last one said: that it
// came is news after a failure.
func (c *Client) watch(ctx context.Context, path string, got func([]byte) error, failed func(error)) {
	var index uint64
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		body, next, err := c.get(ctx, path, index)
		if err == nil {
			err = got(body)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed(err)
			// Anew from the start: what comes next is here at once, and not when it changes.
			index = 0
			failures++
			pause(ctx, backoff(failures))
			continue
		}
		failures = 0
		if next < index {
			next = 0 // the agent has lost its state
		}
		index = next
		pause(ctx, pace-time.Since(began))
	}
}

func backoff(failures int) time.Duration {
	most := min(backoffBase<<min(failures, 10), backoffMax)
	return backoffBase/2 + rand.N(most)
}

// get makes one query; index 0 does not block.
func (c *Client) get(ctx context.Context, path string, index uint64) (body []byte, next uint64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait+wait/16+slack, errors.New("the agent does not answer"))
	defer cancel()
	values := url.Values{}
	if index > 0 {
		values.Set("index", strconv.FormatUint(index, 10))
		values.Set("wait", wait.String())
	}
	body, header, err := c.send(ctx, http.MethodGet, path, values, nil)
	if err != nil {
		return nil, 0, err
	}
	// An index of 0, or none, must not be waited on: the query would not block.
	next, _ = strconv.ParseUint(header.Get("X-Consul-Index"), 10, 64)
	return body, max(next, 1), nil
}

// send makes one request, in the tenancy that is configured.
func (c *Client) send(ctx context.Context, method, path string, values url.Values, content io.Reader) (body []byte, header http.Header, err error) {
	if values == nil {
		values = url.Values{}
	}
	if c.config.Namespace != "" {
		values.Set("ns", c.config.Namespace)
	}
	if c.config.Partition != "" {
		values.Set("partition", c.config.Partition)
	}
	u := url.URL{Scheme: c.config.Scheme, Host: c.config.Address, Path: path, RawQuery: values.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, nil, err
	}
	token, err := c.config.token()
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	case resp.StatusCode == http.StatusForbidden:
		return nil, nil, fmt.Errorf("%s: %w: %.200s", path, ErrNoPermission, body)
	case resp.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("%s: %s: %.200s", path, resp.Status, body)
	case len(body) > maxAnswer:
		return nil, nil, fmt.Errorf("%s: the answer is longer than %d bytes", path, maxAnswer)
	}
	return body, resp.Header, nil
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
