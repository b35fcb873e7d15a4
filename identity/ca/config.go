package ca

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lives of what the CA issues.
const (
	DefaultSVIDTTL = time.Hour
	// DefaultCATTL is long enough that a federation of two trust domains survives a
	// partition of a week: a peer that saw the bundle before the next root was
	// published still knows the signing root for a quarter of this time.
	DefaultCATTL = 30 * 24 * time.Hour

	// MinSVIDTTL keeps certificates, whose times have whole seconds, apart from
	// their renewal.
	MinSVIDTTL = 2 * time.Second
	// MaxSVIDTTL bounds how long a stolen key is useful.
	MaxSVIDTTL = 24 * time.Hour
	// MaxCATTL bounds the life of a root.
	MaxCATTL = 10 * 365 * 24 * time.Hour
	// rootToSVID is how many lives of an SVID a root's life must hold: a root signs
	// until three quarters of its life, and no SVID may outlive it.
	rootToSVID = 4
)

// Bounds of the configuration.
const (
	// maxEntries bounds the table of entries, and maxEntriesPerUID what one
	// workload is sent: an answer must fit a gRPC message (4 MiB by default).
	maxEntries       = 4096
	maxEntriesPerUID = 64
	maxFederated     = 64
)

// Config describes a CA.
type Config struct {
	// TrustDomain is the domain that the CA speaks for.
	TrustDomain spiffeid.TrustDomain
	// Dir keeps roots and keys; it is made with mode 0700 if it does not exist.
	Dir string
	// Socket is the path of the Workload API's Unix socket.
	Socket string
	// SVIDTTL is the life of an SVID; 0 is DefaultSVIDTTL.
	SVIDTTL time.Duration
	// CATTL is the life of a root, at least four times SVIDTTL; 0 is DefaultCATTL.
	CATTL time.Duration
	// Entries say who gets which SVID. They can be replaced while the CA runs.
	Entries []Entry
	// Federated lists the other trust domains that workloads shall trust.
	Federated []Federated
	// BundleFile is where the CA writes its own bundle, as a SPIFFE bundle document
	// with mode 0644, for the other side to read; empty writes none.
	BundleFile string
	// Hosts lets other hosts of the trust domain join; the zero value lets none.
	Hosts Hosts
}

// Hosts is how other hosts reach the CA.
type Hosts struct {
	// Address is the host:port to listen on (TCP, TLS); empty listens on none.
	Address string
	// Advertise is the host:port that tokens name; empty is Address.
	Advertise string
}

// Entry gives processes of a uid an SVID.
type Entry struct {
	// ID is what the SVID says, an ID of the CA's own trust domain.
	ID spiffeid.ID
	// UID is the user that may have it; nil is the CA's own, or on another host its
	// agent's.
	UID *uint32
	// Host is the host whose agent may have it signed; empty is the CA's own.
	Host string
	// Hint is handed on to the workload.
	Hint string
}

// Federated is another trust domain and the file with its bundle document.
type Federated struct {
	TrustDomain spiffeid.TrustDomain
	BundleFile  string
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.SVIDTTL == 0 {
		c.SVIDTTL = DefaultSVIDTTL
	}
	if c.CATTL == 0 {
		c.CATTL = DefaultCATTL
	}
	return c
}

// Validate returns everything that is wrong with the configuration; it touches no
// file.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(field string, value any, rule string) {
		errs = append(errs, fmt.Errorf("%s: %v: %s", field, value, rule))
	}
	if c.TrustDomain.IsZero() {
		bad("trust_domain", "''", "must be set")
	}
	if c.Dir == "" {
		bad("dir", "''", "must be set")
	}
	switch {
	case c.Socket == "":
		bad("socket", "''", "must be set")
	case !filepath.IsAbs(c.Socket):
		bad("socket", c.Socket, "must be an absolute path")
	case len(c.Socket) > workload.MaxSocketPath:
		bad("socket", c.Socket, fmt.Sprintf("must be at most %d bytes long", workload.MaxSocketPath))
	}
	if c.SVIDTTL < MinSVIDTTL || c.SVIDTTL > MaxSVIDTTL {
		bad("svid_ttl", c.SVIDTTL, fmt.Sprintf("must be between %s and %s", MinSVIDTTL, MaxSVIDTTL))
	}
	if c.CATTL < rootToSVID*c.SVIDTTL || c.CATTL > MaxCATTL {
		bad("ca_ttl", c.CATTL, fmt.Sprintf("must be at least %d times svid_ttl and at most %s", rootToSVID, MaxCATTL))
	}
	if err := validateEntries(c.TrustDomain, c.Entries); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Hosts.validate())
	for i, e := range c.Entries {
		if e.Host != "" && c.Hosts.Address == "" {
			bad(fmt.Sprintf("entries[%d].host", i), e.Host, "needs hosts.address: no other host can join")
		}
	}
	if socket := filepath.Join(c.Dir, operatorName); c.Hosts.Address != "" && len(socket) > workload.MaxSocketPath {
		bad("dir", c.Dir, fmt.Sprintf("must leave room for a socket's path of at most %d bytes", workload.MaxSocketPath))
	}
	if len(c.Federated) > maxFederated {
		bad("federated", len(c.Federated), fmt.Sprintf("must be at most %d", maxFederated))
	}
	seen := make(map[spiffeid.TrustDomain]bool)
	for i, f := range c.Federated {
		field := fmt.Sprintf("federated[%d]", i)
		switch {
		case f.TrustDomain.IsZero():
			bad(field+".trust_domain", "''", "must be set")
		case f.TrustDomain == c.TrustDomain:
			bad(field+".trust_domain", f.TrustDomain, "must not be the own trust domain")
		case seen[f.TrustDomain]:
			bad(field+".trust_domain", f.TrustDomain, "must not be listed twice")
		}
		seen[f.TrustDomain] = true
		if f.BundleFile == "" {
			bad(field+".bundle_file", "''", "must be set")
		}
	}
	return errors.Join(errs...)
}

func (h Hosts) validate() error {
	if h.Address == "" {
		if h.Advertise != "" {
			return fmt.Errorf("hosts.advertise: %s: needs hosts.address", h.Advertise)
		}
		return nil
	}
	var errs []error
	host, _, err := net.SplitHostPort(h.Address)
	if err != nil || host == "" {
		errs = append(errs, fmt.Errorf("hosts.address: %s: must be host:port", h.Address))
	}
	if ip, perr := netip.ParseAddr(host); perr == nil && ip.IsUnspecified() && h.Advertise == "" {
		errs = append(errs, errors.New("hosts.advertise: '': must be set where hosts.address is every address: tokens must name one"))
	}
	if h.Advertise != "" {
		if host, _, err := net.SplitHostPort(h.Advertise); err != nil || host == "" {
			errs = append(errs, fmt.Errorf("hosts.advertise: %s: must be host:port", h.Advertise))
		}
	}
	return errors.Join(errs...)
}

// validateEntries returns everything that is wrong with a table of entries.
func validateEntries(td spiffeid.TrustDomain, entries []Entry) error {
	var errs []error
	if len(entries) > maxEntries {
		errs = append(errs, fmt.Errorf("entries: %d: must be at most %d", len(entries), maxEntries))
	}
	type key struct {
		id   spiffeid.ID
		host string
		own  bool
		uid  uint32
	}
	seen := make(map[key]bool)
	perUID := make(map[key]int)
	for i, e := range entries {
		k := key{id: e.ID, host: e.Host, own: e.UID == nil}
		if e.UID != nil {
			k.uid = *e.UID
		}
		switch {
		case e.ID.IsZero():
			errs = append(errs, fmt.Errorf("entries[%d].id: '': must be set", i))
		case !e.ID.MemberOf(td):
			errs = append(errs, fmt.Errorf("entries[%d].id: %s: must be of trust domain %s", i, e.ID, td))
		case e.ID.Path() == "":
			errs = append(errs, fmt.Errorf("entries[%d].id: %s: must have a path", i, e.ID))
		case e.ID == authorityID(td) || strings.HasPrefix(e.ID.String(), authorityID(td).String()+"/"):
			errs = append(errs, fmt.Errorf("entries[%d].id: %s: must not be the CA's own, or below it", i, e.ID))
		case e.Host != "" && !hostapi.ValidHost(e.Host):
			errs = append(errs, fmt.Errorf("entries[%d].host: %s: %s", i, e.Host, hostapi.HostRule))
		case seen[k]:
			errs = append(errs, fmt.Errorf("entries[%d].id: %s: must not be listed twice for a uid", i, e.ID))
		}
		seen[k] = true
		k.id = spiffeid.ID{}
		if perUID[k]++; perUID[k] == maxEntriesPerUID+1 {
			errs = append(errs, fmt.Errorf("entries[%d]: more than %d entries for one uid", i, maxEntriesPerUID))
		}
	}
	return errors.Join(errs...)
}

// authorityID is the CA's own SPIFFE ID; those of hosts are below it.
func authorityID(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromPath(td, hostapi.AuthorityPath)
}

// entitled returns the entries of a uid on a host, in their order, each ID once.
func entitled(entries []Entry, host string, uid, own uint32) []Entry {
	var out []Entry
	seen := make(map[spiffeid.ID]bool)
	for _, e := range entries {
		mine := e.Host == host && (e.UID == nil && uid == own || e.UID != nil && *e.UID == uid)
		if mine && !seen[e.ID] {
			seen[e.ID] = true
			out = append(out, e)
		}
	}
	return out
}
