package consulkv

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = 2 * time.Second
	keepAlive   = 15 * time.Second
	// maxConns: watches of items and replicas, the writes of one process, scans.
	maxConns = 16
	// maxAnswer bounds one answer: store.MaxItems as base64.
	maxAnswer = 256 << 20
	// maxLag is how long a server may be without a word from its leader before its
	// answers are not believed.
	maxLag = time.Minute

	tokenHeader   = "X-Consul-Token"
	indexHeader   = "X-Consul-Index"
	leaderHeader  = "X-Consul-Knownleader"
	contactHeader = "X-Consul-Lastcontact"
)

var errNoLeader = errors.New("the answer comes from a server that knows no leader")

// client speaks to the first agent that answers.
type client struct {
	config Config
	http   *http.Client
	agent  atomic.Uint32 // index of the address in use
}

func newClient(c Config) (*client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: maxConns, MaxConnsPerHost: 4 * maxConns,
		IdleConnTimeout: 2 * c.Wait,
	}
	if c.Scheme == "https" {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName}
		if c.TLS.CAFile != "" {
			pem, err := os.ReadFile(c.TLS.CAFile)
			if err != nil {
				return nil, fmt.Errorf("tls.ca_file: %w", err)
			}
			conf.RootCAs = x509.NewCertPool()
			if !conf.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("tls.ca_file: value %q: holds no certificate in PEM", c.TLS.CAFile)
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
	return &client{config: c, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// statusError is an answer that is no success.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.status, strings.TrimSpace(e.body))
}

// answer is what Consul says.
type answer struct {
	status int
	body   []byte
	index  uint64
}

// do makes one request. What is no success but in allow is a *statusError. What
// was never sent, and what only reads, is tried at every agent.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body []byte, allow ...int) (a answer, err error) {
	for range c.config.Address {
		n := c.agent.Load()
		a, err = c.ask(ctx, int(n), method, path, query, body)
		if err == nil && a.status != http.StatusOK && !slices.Contains(allow, a.status) {
			err = &statusError{status: a.status, body: string(a.body[:min(len(a.body), 300)])}
		}
		refusal, refused := errors.AsType[*statusError](err)
		if err == nil || ctx.Err() != nil || refused && refusal.status < http.StatusInternalServerError {
			return a, err
		}
		c.agent.CompareAndSwap(n, (n+1)%uint32(len(c.config.Address)))
		if method != http.MethodGet && !neverSent(err) {
			return a, err
		}
	}
	return a, err
}

// neverSent reports whether no connection was made.
func neverSent(err error) bool {
	d, ok := errors.AsType[*net.OpError](err)
	return ok && d.Op == "dial"
}

func (c *client) ask(ctx context.Context, agent int, method, path string, query url.Values, body []byte) (answer, error) {
	if c.config.Datacenter != "" {
		if query == nil {
			query = url.Values{}
		}
		query.Set("dc", c.config.Datacenter)
	}
	u := url.URL{Scheme: c.config.Scheme, Host: c.config.Address[agent], Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if c.config.TokenFile != "" {
		token, err := os.ReadFile(c.config.TokenFile)
		if err != nil {
			return answer{}, fmt.Errorf("read the token file: %w", err)
		}
		req.Header.Set(tokenHeader, strings.TrimSpace(string(token)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	a := answer{status: resp.StatusCode, body: data}
	a.index, _ = strconv.ParseUint(resp.Header.Get(indexHeader), 10, 64) // 0: none, and not believed
	if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound) {
		err = trust(resp.Header)
	}
	return a, err
}

// trust returns why an answer is not to be believed.
func trust(h http.Header) error {
	if h.Get(leaderHeader) == "false" {
		return errNoLeader
	}
	if ms, err := strconv.ParseInt(h.Get(contactHeader), 10, 64); err == nil && time.Duration(ms)*time.Millisecond > maxLag {
		return fmt.Errorf("the answer comes from a server that has not heard its leader for %d ms", ms)
	}
	return nil
}

// pair is one key as Consul has it.
type pair struct {
	Key         string
	Value       []byte
	Flags       uint64
	ModifyIndex uint64
	LockIndex   uint64
	Session     string
}

// read returns the keys below a prefix, or one key. index 0 does not block.
func (c *client) read(ctx context.Context, key string, recurse bool, index uint64, consistent bool) ([]pair, uint64, error) {
	query := url.Values{}
	if recurse {
		query.Set("recurse", "")
	}
	limit := c.config.RequestTimeout
	if consistent {
		query.Set("consistent", "")
	}
	if index > 0 {
		query.Set("index", strconv.FormatUint(index, 10))
		query.Set("wait", c.config.Wait.String())
		limit += c.config.Wait * 17 / 16 // the server adds up to a sixteenth
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a, err := c.do(ctx, http.MethodGet, "/v1/kv/"+key, query, nil, http.StatusNotFound)
	if err != nil {
		return nil, 0, fmt.Errorf("consul: %w", err)
	}
	if a.status == http.StatusNotFound {
		return nil, a.index, nil
	}
	var pairs []pair
	if err := json.Unmarshal(a.body, &pairs); err != nil {
		return nil, 0, fmt.Errorf("consul: %w", err)
	}
	return pairs, a.index, nil
}

// keys returns the names of the keys below a prefix.
func (c *client) keys(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	a, err := c.do(ctx, http.MethodGet, "/v1/kv/"+prefix, url.Values{"keys": {""}}, nil, http.StatusNotFound)
	if err != nil || a.status == http.StatusNotFound {
		return nil, err
	}
	var keys []string
	err = json.Unmarshal(a.body, &keys)
	return keys, err
}

// op is one operation on a key in a transaction.
type op struct {
	Verb    string
	Key     string
	Value   []byte `json:",omitempty"`
	Flags   uint64 `json:",omitempty"`
	Index   uint64
	Session string `json:",omitempty"`
}

// txnResult is the answer to a transaction: the keys that were set or read, or
// what failed.
type txnResult struct {
	Results []struct{ KV *pair }
	Errors  []struct {
		OpIndex int
		What    string
	}
}

// txn makes operations together; conflict tells that Consul refused them and
// made none.
func (c *client) txn(ctx context.Context, ops []op) (r txnResult, conflict bool, err error) {
	type entry struct{ KV op }
	entries := make([]entry, len(ops))
	for i, o := range ops {
		entries[i].KV = o
	}
	body, err := json.Marshal(entries)
	if err != nil {
		return r, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	a, err := c.do(ctx, http.MethodPut, "/v1/txn", nil, body, http.StatusConflict)
	if err != nil {
		return r, false, err
	}
	if err := json.Unmarshal(a.body, &r); err != nil {
		return r, false, fmt.Errorf("consul: transaction: %w", err)
	}
	return r, a.status == http.StatusConflict, nil
}
