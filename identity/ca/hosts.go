package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/time/rate"
)

const (
	hostsName = "hosts.state"
	hostsKind = "isthmus-ca-hosts 1"
	// maxHosts and maxTokens bound what is kept, and the time that a change takes.
	maxHosts  = 1024
	maxTokens = 1024
	// maxHostsBytes holds both at their largest with 64 entries each.
	maxHostsBytes = 64 << 20
	// DefaultTokenTTL is long enough to walk to the other host.
	DefaultTokenTTL = 10 * time.Minute
	// MaxTokenTTL is long enough to have a host built by tomorrow.
	MaxTokenTTL = 24 * time.Hour
	// What one host may ask for: it signs each entry a few times an hour, all of
	// them at once after its start.
	hostRequestsPerSecond = 20
	hostRequestsBurst     = 200
	// What those who have not joined may ask for, all of them together.
	joinsPerSecond = 10
	joinsBurst     = 50
)

// hostsFile is the JSON in the file of hosts.
type hostsFile struct {
	Tokens []tokenRecord `json:"tokens"`
	Hosts  []hostRecord  `json:"hosts"`
}

// tokenRecord is a join token without its secret.
type tokenRecord struct {
	Digest  string      `json:"digest"` // of the secret
	Host    string      `json:"host"`
	Expires time.Time   `json:"expires"`
	Entries []hostEntry `json:"entries,omitempty"`
	// UsedBy is the digest of the key that joined with it. The same key may ask
	// again until the token expires: an answer may have been lost.
	UsedBy string `json:"used_by,omitempty"`
}

// hostRecord is a host that has joined.
type hostRecord struct {
	Name   string    `json:"name"`
	Joined time.Time `json:"joined"`
	// Serial is of the host's SVID, Before of the one before: the answer with the
	// newer one may have been lost. No other SVID of its name is good.
	Serial  string      `json:"serial"`
	Before  string      `json:"before,omitempty"`
	Expires time.Time   `json:"expires"`
	Entries []hostEntry `json:"entries,omitempty"`
}

// hostEntry is an Entry that came with a token.
type hostEntry struct {
	ID  spiffeid.ID `json:"id"`
	UID *uint32     `json:"uid,omitempty"`
}

// hosts are those that may join and those that have. Every change is on disk
// before it is answered.
type hosts struct {
	ca *CA

	mu     sync.Mutex
	tokens map[string]tokenRecord // by digest
	joined map[string]hostRecord  // by name
	rates  map[string]*rate.Limiter
	joins  *rate.Limiter
	// changed is closed when a host comes, goes, or has other entries.
	changed chan struct{}
}

func loadHosts(c *CA) (*hosts, error) {
	h := &hosts{
		ca: c, tokens: make(map[string]tokenRecord), joined: make(map[string]hostRecord), rates: make(map[string]*rate.Limiter),
		joins: rate.NewLimiter(joinsPerSecond, joinsBurst), changed: make(chan struct{}),
	}
	path := filepath.Join(c.cfg.Dir, hostsName)
	body, damage, err := keep.Load(hostsPoint, path, hostsKind, maxHostsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	c.damaged(damage)
	var file hostsFile
	if err == nil {
		err = json.Unmarshal(body, &file)
	}
	if err != nil {
		// Without it a revoked host could not be told from a joined one.
		return nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	for _, t := range file.Tokens {
		h.tokens[t.Digest] = t
	}
	for _, r := range file.Hosts {
		h.joined[r.Name] = r
	}
	c.metrics.hosts.Set(float64(len(h.joined)))
	return h, nil
}

// update changes tokens and hosts by f and saves them; on any error nothing has
// changed.
func (h *hosts) update(f func(now time.Time) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.ca.now()
	tokens, joined := maps.Clone(h.tokens), maps.Clone(h.joined)
	maps.DeleteFunc(h.tokens, func(_ string, t tokenRecord) bool { return !now.Before(t.Expires) })
	err := f(now)
	if err == nil {
		err = h.save()
	}
	if err != nil {
		h.tokens, h.joined = tokens, joined
		return err
	}
	h.ca.metrics.hosts.Set(float64(len(h.joined)))
	close(h.changed)
	h.changed = make(chan struct{})
	return nil
}

func (h *hosts) save() error {
	var file hostsFile
	for _, k := range slices.Sorted(maps.Keys(h.tokens)) {
		file.Tokens = append(file.Tokens, h.tokens[k])
	}
	for _, k := range slices.Sorted(maps.Keys(h.joined)) {
		file.Hosts = append(file.Hosts, h.joined[k])
	}
	body, err := json.Marshal(file)
	if err == nil {
		err = keep.Save(hostsPoint, filepath.Join(h.ca.cfg.Dir, hostsName), hostsKind, body)
	}
	if err != nil {
		h.ca.metrics.writeErrors.Inc()
		return fmt.Errorf("hosts: %w", err)
	}
	return nil
}

// token makes a join token for a host, with entries that the host gets when it
// joins.
func (h *hosts) token(host string, ttl time.Duration, entries []hostEntry) (hostapi.Token, time.Time, error) {
	none := func(err error) (hostapi.Token, time.Time, error) { return hostapi.Token{}, time.Time{}, err }
	if !hostapi.ValidHost(host) {
		return none(fmt.Errorf("host: %q: %s", host, hostapi.HostRule))
	}
	if ttl <= 0 || ttl > MaxTokenTTL {
		return none(fmt.Errorf("ttl: %s: must be above zero and at most %s", ttl, MaxTokenTTL))
	}
	if err := validateEntries(h.ca.cfg.TrustDomain, asEntries(host, entries)); err != nil {
		return none(err)
	}
	t := hostapi.Token{
		Address: h.ca.cfg.Hosts.Advertise, TrustDomain: h.ca.cfg.TrustDomain.Name(), Host: host, Secret: make([]byte, hostapi.SecretBytes),
	}
	if t.Address == "" {
		t.Address = h.ca.cfg.Hosts.Address
	}
	if _, err := rand.Read(t.Secret); err != nil {
		return none(err)
	}
	for _, c := range h.ca.view.Load().roots.certificates() {
		t.Roots = append(t.Roots, c.Raw)
	}
	var expires time.Time
	err := h.update(func(now time.Time) error {
		if len(h.tokens) >= maxTokens {
			return fmt.Errorf("tokens: %d: at most %d may be outstanding", len(h.tokens), maxTokens)
		}
		expires = now.Add(ttl)
		digest := digestOf(t.Secret)
		h.tokens[digest] = tokenRecord{Digest: digest, Host: host, Expires: expires, Entries: entries}
		return nil
	})
	if err != nil {
		return none(err)
	}
	h.ca.log.Info("join token made", "caller", host, "duration", ttl)
	return t, expires, nil
}

func asEntries(host string, entries []hostEntry) []Entry {
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{ID: e.ID, UID: e.UID, Host: host}
	}
	return out
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// join takes a token's word for a host and signs its first SVID.
func (h *hosts) join(req hostapi.Join) (*x509.Certificate, error) {
	csr, err := parseCSR(req.CSR)
	if err != nil {
		return nil, err
	}
	var cert *x509.Certificate
	err = h.update(func(now time.Time) error {
		digest, key := digestOf(req.Secret), digestOf(csr.RawSubjectPublicKeyInfo)
		t, ok := h.tokens[digest]
		switch {
		case !ok:
			return hostapi.Refuse(hostapi.CodeToken, "the token is unknown or has expired: make another one with isthmus ca token")
		case t.Host != req.Host:
			return hostapi.Refuse(hostapi.CodeToken, "the token is for another host")
		case t.UsedBy != "" && t.UsedBy != key:
			return hostapi.Refuse(hostapi.CodeToken, "the token has been used")
		case h.joined[t.Host].Name == "" && len(h.joined) >= maxHosts:
			return hostapi.Refuse(hostapi.CodeBusy, "at most %d hosts may join", maxHosts)
		}
		if cert, err = h.certify(t.Host, csr, now); err != nil {
			return err
		}
		t.UsedBy = key
		h.tokens[digest] = t
		// Who held the name before is out: the operator has made a token for it anew.
		h.joined[t.Host] = hostRecord{
			Name: t.Host, Joined: now.UTC(), Serial: cert.SerialNumber.Text(16), Expires: cert.NotAfter, Entries: t.Entries,
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	h.ca.log.Info("host joined", "caller", req.Host)
	return cert, nil
}

// renew signs a host's next SVID; serial is of the one that it shows.
func (h *hosts) renew(host, serial string, csrDER []byte) (*x509.Certificate, error) {
	csr, err := parseCSR(csrDER)
	if err != nil {
		return nil, err
	}
	var cert *x509.Certificate
	err = h.update(func(now time.Time) error {
		r, ok := h.joined[host]
		if !ok || r.Serial != serial && r.Before != serial {
			return revoked()
		}
		if cert, err = h.certify(host, csr, now); err != nil {
			return err
		}
		r.Before, r.Serial, r.Expires = serial, cert.SerialNumber.Text(16), cert.NotAfter
		h.joined[host] = r
		return nil
	})
	return cert, err
}

func revoked() error {
	return hostapi.Refuse(hostapi.CodeRevoked, "the host is not registered with this svid: join again with a new token")
}

func (h *hosts) certify(host string, csr *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	id, err := hostID(h.ca.cfg.TrustDomain, host)
	if err != nil {
		return nil, hostapi.Refuse(hostapi.CodeMalformed, "host: %s", hostapi.HostRule)
	}
	cert, err := h.ca.view.Load().roots.certify(id, csr.PublicKey, now, h.ca.cfg.SVIDTTL)
	if err != nil {
		return nil, err
	}
	h.ca.issued(cert, id, now, "caller", host)
	return cert, nil
}

func hostID(td spiffeid.TrustDomain, host string) (spiffeid.ID, error) {
	return spiffeid.FromPath(td, hostapi.HostPath+host)
}

// admit returns a host's record while it may ask: it has joined, shows the SVID
// that it was given last, and asks no more often than a host needs to.
func (h *hosts) admit(host, serial string) (hostRecord, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.joined[host]
	if !ok || r.Serial != serial && r.Before != serial {
		return hostRecord{}, revoked()
	}
	limiter := h.rates[host]
	if limiter == nil {
		limiter = rate.NewLimiter(hostRequestsPerSecond, hostRequestsBurst)
		h.rates[host] = limiter
	}
	if !limiter.AllowN(h.ca.now(), 1) {
		return hostRecord{}, hostapi.Refuse(hostapi.CodeBusy, "more than %d requests a second", hostRequestsPerSecond)
	}
	return r, nil
}

// still returns nil while a host is registered as it was when it asked.
func (h *hosts) still(r hostRecord) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now, ok := h.joined[r.Name]; !ok || !now.Joined.Equal(r.Joined) {
		return revoked()
	}
	return nil
}

// revoke forgets a host and its tokens.
func (h *hosts) revoke(host string) (known bool, err error) {
	err = h.update(func(time.Time) error {
		_, known = h.joined[host]
		delete(h.joined, host)
		delete(h.rates, host)
		maps.DeleteFunc(h.tokens, func(_ string, t tokenRecord) bool {
			known = known || t.Host == host
			return t.Host == host
		})
		return nil
	})
	if err == nil && known {
		h.ca.log.Warn("host revoked", "caller", host)
	}
	return known, err
}

// list returns the hosts by name, and the tokens that nobody has used.
func (h *hosts) list() (joined []hostRecord, pending []tokenRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(h.joined)) {
		joined = append(joined, h.joined[k])
	}
	for _, k := range slices.Sorted(maps.Keys(h.tokens)) {
		if t := h.tokens[k]; t.UsedBy == "" && h.ca.now().Before(t.Expires) {
			pending = append(pending, t)
		}
	}
	return joined, pending
}

// entriesOf are those of the file for a host, then those that came with its token,
// and the channel that is closed when they may have changed.
func (h *hosts) entriesOf(v *view, host string) (out []Entry, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range v.entries {
		if e.Host == host {
			out = append(out, e)
		}
	}
	return append(out, asEntries(host, h.joined[host].Entries)...), h.changed
}
