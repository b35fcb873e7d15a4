package consulca

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxLeaves bounds the certificates of one Client: each is a blocking query, and an
// agent allows a client 200 connections by default, of which there are other users.
const MaxLeaves = 100

// Options of New.
type Options struct {
	Config Config
	// Log receives the log; nil discards it.
	Log *slog.Logger
}

// Client follows the CA of one Consul cluster.
type Client struct {
	config Config
	http   *http.Client
	log    *slog.Logger

	mu      sync.Mutex
	leaves  int
	roots   *roots
	failed  error         // why the last answer was none
	changed chan struct{} // closed with the next answer or failure
	// verdicts are the last answers of intentions, at most maxVerdicts.
	verdicts map[question]verdict
	asking   chan struct{} // holds a token for each question
}

// domainSuffix ends the trust domain of every Consul mesh (CLUSTER-ID.consul), whatever
// its CA and the domain of its DNS are.
const domainSuffix = ".consul"

// roots are those of the mesh's trust domain: the one in use and those that still
// have certificates below them.
type roots struct {
	domain      spiffeid.TrustDomain
	authorities []*x509.Certificate
}

// New reads the files of the TLS configuration and connects to nothing.
func New(o Options) (*Client, error) {
	var errs []error
	for _, p := range o.Config.Problems() {
		errs = append(errs, fmt.Errorf("%s: %q: %s", p.Field, p.Value, p.Rule))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("consul ca: %w", errors.Join(errs...))
	}
	c := &Client{config: o.Config.WithDefaults(), log: o.Log, changed: make(chan struct{}), asking: make(chan struct{}, maxAsking)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	c.http, err = c.config.newHTTP()
	return c, err
}

// Leaf is the identity of one service of the mesh, by its name there.
func (c *Client) Leaf(service string) (*Leaf, error) {
	if err := CheckService(service); err != nil {
		return nil, fmt.Errorf("consul ca: service %q: %w", service, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves++; c.leaves > MaxLeaves {
		return nil, fmt.Errorf("consul ca: at most %d services", MaxLeaves)
	}
	return &Leaf{client: c, service: service}, nil
}

// Run follows the roots until ctx ends. It is called once, and no Leaf offers
// anything without it.
func (c *Client) Run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	c.watch(ctx, "/v1/agent/connect/ca/roots", c.gotRoots, c.rootsFailed)
	return nil
}

func (c *Client) gotRoots(body []byte) error {
	next, err := parseRoots(body)
	if err != nil {
		return fmt.Errorf("roots: %w", err)
	}
	c.tell(next, nil)
	return nil
}

func (c *Client) rootsFailed(err error) {
	c.log.Warn("roots of the consul ca are not to be read", "address", c.config.Address, "err", err)
	c.tell(nil, err)
}

func (c *Client) tell(next *roots, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next != nil {
		c.roots = next
	}
	c.failed = err
	close(c.changed)
	c.changed = make(chan struct{})
}

// current is what is known of the roots, what is closed when that changes, and why
// the last answer was none.
func (c *Client) current() (known *roots, changed <-chan struct{}, failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roots, c.changed, c.failed
}

// parseRoots reads an answer: it must name a trust domain and hold a root.
func parseRoots(body []byte) (*roots, error) {
	var answer struct {
		TrustDomain string
		Roots       []struct{ RootCert string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	td, err := spiffeid.TrustDomainFromString(answer.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", answer.TrustDomain, err)
	}
	if !strings.HasSuffix(td.Name(), domainSuffix) {
		// The agent's word makes callers of it: it must not make any of another domain.
		return nil, fmt.Errorf("trust domain %s: no mesh of consul has it, theirs end in %s", td, domainSuffix)
	}
	r := &roots{domain: td}
	for i, root := range answer.Roots {
		certs, err := parseCertificates(root.RootCert)
		if err != nil {
			return nil, fmt.Errorf("root %d: %w", i, err)
		}
		r.authorities = append(r.authorities, certs...)
	}
	if len(r.authorities) == 0 {
		return nil, fmt.Errorf("trust domain %s: %w", td, identity.ErrEmptyBundle)
	}
	return r, nil
}

func leafPath(service string) string {
	return "/v1/agent/connect/ca/leaf/" + url.PathEscape(service)
}
