package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// requestTimeout bounds everything but watches, explain of another cluster
	// included.
	requestTimeout = 15 * time.Second
	// maxBody bounds an answer: a page has at most 1,000 items.
	maxBody = 64 << 20
)

// Options say where a federation's REST API is. Exactly one of Socket and URL is
// set.
type Options struct {
	// Socket is the path of the Unix socket.
	Socket string
	// URL is http://HOST:PORT of a loopback address, with the Token that it asks
	// for; or https://HOST:PORT of a federation's mTLS listener, with Identity and
	// Federation, and the Token of an OIDC issuer if that is to say who asks.
	URL   string
	Token string
	// Identity holds the SVID to show over https, Federation is the SPIFFE ID of
	// the federation that is meant: nobody else is spoken to.
	Identity   *identity.Source
	Federation spiffeid.ID
}

// Client speaks to one federation. It is safe for concurrent use.
type Client struct {
	base   string
	token  string
	reason string // of every write
	http   *http.Client
}

// New checks the options and connects to nothing yet.
func New(opts Options) (*Client, error) {
	c := &Client{token: opts.Token, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: requestTimeout}
	c.http.Transport = transport
	switch {
	case opts.Socket != "" && opts.URL != "":
		return nil, errors.New("client: either a socket or a url, not both")
	case opts.Socket != "":
		c.base = "http://isthmus"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", opts.Socket)
		}
	default:
		u, err := url.Parse(opts.URL)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "":
			return nil, fmt.Errorf("client: url %q: must be http://HOST:PORT or https://HOST:PORT", opts.URL)
		case u.Scheme == "https" && (opts.Identity == nil || opts.Federation.IsZero()):
			return nil, fmt.Errorf("client: url %q: needs an identity to show and the spiffe id of the federation", opts.URL)
		case u.Scheme == "https":
			transport.TLSClientConfig = opts.Identity.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(opts.Federation))
			transport.TLSHandshakeTimeout = 5 * time.Second
		case !loopback(u.Hostname()):
			return nil, fmt.Errorf("client: url %q: must be a loopback address: the token would travel in clear text elsewhere", opts.URL)
		}
		c.base = u.Scheme + "://" + u.Host
		transport.DialContext = dialer.DialContext
	}
	return c, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version describes the federation's process.
func (c *Client) Version(ctx context.Context) (resource.Version, error) {
	var v resource.Version
	err := c.call(ctx, http.MethodGet, "/v1/version", nil, nil, nil, &v)
	return v, err
}

// Trust lists the roots in force and who hangs below them.
func (c *Client) Trust(ctx context.Context) (resource.Trust, error) {
	var t resource.Trust
	err := c.call(ctx, http.MethodGet, "/v1/trust", nil, nil, nil, &t)
	return t, err
}

// Explain asks why a call goes where it goes.
func (c *Client) Explain(ctx context.Context, q resource.ExplainQuery) (*resource.Explanation, error) {
	query := url.Values{"service": {q.Service.String()}}
	for name, value := range map[string]string{"port": q.Port, "pin": string(q.Pin), "from": string(q.From), "gateway": q.Gateway} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var e resource.Explanation
	if err := c.call(ctx, http.MethodGet, "/v1/explain", query, nil, nil, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// Calls lists real calls that the cluster's gateways kept.
func (c *Client) Calls(ctx context.Context, q resource.CallQuery) (*resource.Calls, error) {
	query := url.Values{}
	for name, value := range map[string]string{"trace": q.TraceID, "request": q.RequestID, "gateway": q.Gateway} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Service.IsZero() {
		query.Set("service", q.Service.String())
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Saved {
		query.Set("saved", "true")
	}
	out := new(resource.Calls)
	if err := c.call(ctx, http.MethodGet, "/v1/calls", query, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Simulate says what would become of the calls of now.
func (c *Client) Simulate(ctx context.Context, r resource.SimulateRequest) (*resource.Simulation, error) {
	out := new(resource.Simulation)
	if err := c.call(ctx, http.MethodPost, "/v1/simulate", nil, nil, r, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Recording is what simulations start from, as JSON.
func (c *Client) Recording(ctx context.Context) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.call(ctx, http.MethodGet, "/v1/recording", nil, nil, nil, &out)
	return out, err
}

// Release lets the withdrawals through that the guard of a source holds back,
// and returns how many there were.
func (c *Client) Release(ctx context.Context, source string) (int, error) {
	var out struct {
		Released int `json:"released"`
	}
	err := c.call(ctx, http.MethodPost, "/v1/sources/"+url.PathEscape(source)+"/release", nil, nil, nil, &out)
	return out.Released, err
}

// Ready returns nil, or a *StatusError or why nobody answered.
func (c *Client) Ready(ctx context.Context) error {
	err := c.call(ctx, http.MethodGet, "/readyz", nil, nil, nil, nil)
	return err
}

// call makes one request with a deadline. in and out are JSON, nil is none.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, header http.Header, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, query, header, in)
	if err != nil {
		return err
	}
	defer func() {
		drain(resp.Body)
		_ = resp.Body.Close()
	}()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// send makes a request and turns every status but success into a *StatusError.
// A server that asks for patience (429) gets it, a few times.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, header http.Header, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	for attempt := 1; ; attempt++ {
		resp, err := c.once(ctx, method, target, header, body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
			return resp, nil
		}
		wait, ok := patience(resp)
		if attempt < maxAttempts && ok {
			drain(resp.Body)
			_ = resp.Body.Close()
			if err := pause(ctx, wait); err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			continue
		}
		defer func() { _ = resp.Body.Close() }()
		return nil, fmt.Errorf("%s %s: %w", method, path, statusError(resp))
	}
}

// once makes one attempt.
func (c *Client) once(ctx context.Context, method, target string, header http.Header, body []byte) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, err
	}
	if c.reason != "" && method != http.MethodGet {
		req.Header.Set(ReasonHeader, c.reason)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(req)
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
