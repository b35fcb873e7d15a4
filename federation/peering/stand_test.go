package peering_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; only broken code meets it.
const patience = 40 * time.Second

// side is one cluster: a real rulebook on a real store, real TLS on a real
// listener. What lies between two sides (gateways) is a TCP connection.
type side struct {
	t        *testing.T
	name     string
	ca       *identitytest.CA
	id       spiffeid.ID
	identity *identity.Source
	store    store.Store
	history  *history.Log
	book     *rulebook.Book
	registry *prometheus.Registry
	address  string // of the join listener
	gateways []string
	// ahead sets the clock.
	ahead atomic.Int64
	// dialed is where the last Accept went; divert sends it elsewhere.
	divert string
	// between is put between the two ends of an exchange.
	between func(net.Conn) net.Conn
	*peering.Service
	// alive is held by who serves, and wholly by who restarts: a process that has
	// died serves nobody.
	alive sync.RWMutex
}

func newSide(t *testing.T, name string) *side {
	t.Helper()
	return newSideOf(t, name, identitytest.NewCA(name+".test"))
}

func newSideOf(t *testing.T, name string, ca *identitytest.CA) *side {
	t.Helper()
	s := &side{t: t, name: name, ca: ca, id: ca.ID("/isthmus/cluster/" + name)}
	bolt, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bolt.Close() })
	s.history, err = history.New(t.Context(), history.Options{Store: bolt, Kinds: rulebook.Kinds()})
	if err != nil {
		t.Fatal(err)
	}
	s.store = s.history
	s.identity = ca.Source(s.id, ca.Bundle())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.gateways = []string{s.address}
	s.restart()
	config := s.identity.WithJoin(s.identity.ServerTLS([]string{"h2"}, identity.AuthorizeIDs()), func() bool { return s.Open() })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				s.alive.RLock()
				defer s.alive.RUnlock()
				s.ServeConn(ctx, tls.Server(conn, config))
			})
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	return s
}

// restart builds the service anew on what is stored, as a process would.
func (s *side) restart() {
	s.t.Helper()
	s.alive.Lock()
	defer s.alive.Unlock()
	var err error
	s.book, err = rulebook.New(s.t.Context(), rulebook.Options{Store: s.store})
	if err != nil {
		s.t.Fatal(err)
	}
	s.registry = prometheus.NewRegistry()
	s.Service, err = peering.New(s.t.Context(), peering.Options{
		Store: s.store, Identity: s.identity, Peers: shelf{s}, Cluster: catalog.ClusterName(s.name), ID: s.id,
		Locality: catalog.Locality{Cloud: "aws", Region: s.name}, Gateways: func() []string { return s.gateways },
		Dial: func(ctx context.Context, t *peering.Token) (net.Conn, error) {
			to := s.divert
			if to == "" {
				to = t.Gateways[0]
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", to)
			if err == nil && s.between != nil {
				conn = s.between(conn)
			}
			return conn, err
		},
		Registerer: s.registry, Now: s.now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// shelf is the side's peers as federation gives them to peering.
type shelf struct{ s *side }

func (h shelf) All() []policy.Peer { return h.s.book.Peers() }

func (h shelf) Check(ctx context.Context, p policy.Peer) error {
	_, err := h.s.book.PeerRules().Create(ctx, resource.PeerRule{Peer: p}, true)
	return err
}

func (h shelf) Add(ctx context.Context, p policy.Peer) error {
	_, err := h.s.book.PeerRules().Create(ctx, resource.PeerRule{Peer: p}, false)
	return err
}

// token makes an invitation.
func (s *side) token(in peering.Invite) *peering.Token {
	s.t.Helper()
	_, t, err := s.Invite(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func (s *side) accept(t *peering.Token) (*peering.Accepted, error) {
	return s.Accept(s.t.Context(), t.Encode(), peering.Accept{})
}

// must accepts.
func (s *side) must(t *peering.Token) *peering.Accepted {
	s.t.Helper()
	out, err := s.accept(t)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// refuses wants the token refused for one reason, and counted on the side that
// refused.
func (s *side) refuses(text string, want peering.Reason) *peering.Refusal {
	s.t.Helper()
	before := s.count(want)
	out, err := s.Accept(s.t.Context(), text, peering.Accept{})
	r, ok := errors.AsType[*peering.Refusal](err)
	if !ok || r.Reason != want {
		s.t.Fatalf("Accept = %+v, %v; want a refusal for %q", out, err, want)
	}
	if s.count(want) != before+1 {
		s.t.Errorf("the refusal for %q was not counted", want)
	}
	return r
}

// count is the metric of refusals.
func (s *side) count(reason peering.Reason) float64 {
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "isthmus_peering_refused_total" && m.GetLabel()[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// peer is the entry of another side; ok is false where there is none.
func (s *side) peer(o *side) (policy.Peer, bool) {
	for _, p := range s.book.Peers() {
		if string(p.Name) == o.name {
			return p, true
		}
	}
	return policy.Peer{}, false
}

// joined wants both sides to be each other's peers, with each other's bundle.
func joined(t *testing.T, a, b *side) {
	t.Helper()
	for _, pair := range [][2]*side{{a, b}, {b, a}} {
		p, ok := pair[0].peer(pair[1])
		if !ok || p.ID != pair[1].id.String() {
			t.Fatalf("%s has no peer %s: %+v", pair[0].name, pair[1].name, p)
		}
		if strings.Join(p.Gateways, " ") != strings.Join(pair[1].gateways, " ") {
			t.Errorf("%s has gateways %v of %s, want %v", pair[0].name, p.Gateways, pair[1].name, pair[1].gateways)
		}
		if pair[0].ca == pair[1].ca {
			continue
		}
		b, err := identity.ParseBundle(pair[1].ca.TrustDomain(), []byte(p.Bundle.Document))
		if err != nil || len(b.Authorities) != 1 || !b.Authorities[0].Equal(pair[1].ca.Certificate()) {
			t.Errorf("%s has a wrong bundle of %s: %v", pair[0].name, pair[1].name, err)
		}
	}
}

// apart wants no peer on any side.
func apart(t *testing.T, sides ...*side) {
	t.Helper()
	for _, s := range sides {
		if all := s.book.Peers(); len(all) > 0 {
			t.Errorf("%s has peers: %+v", s.name, all)
		}
	}
}
