package dnsway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// askTimeout is of one query to one resolver, forwardTimeout of all of them:
	// less than the 5 s after which askers ask again.
	askTimeout     = 1500 * time.Millisecond
	forwardTimeout = 4500 * time.Millisecond
	// maxForwards bounds the queries that wait for a resolver.
	maxForwards = 512
)

var (
	errOverloaded = errors.New("too many queries wait for resolvers")
	errMismatch   = errors.New("the answer is to another question")
	errNoHelp     = errors.New("the resolver does not answer the question")
)

// forwarder asks other resolvers.
type forwarder struct {
	upstreams []netip.AddrPort
	first     atomic.Uint32 // the one that answered last
	slots     chan struct{}
	udp, tcp  *dns.Client
}

func newForwarder(upstreams []netip.AddrPort) *forwarder {
	return &forwarder{
		upstreams: upstreams, slots: make(chan struct{}, maxForwards),
		udp: &dns.Client{Net: "udp", Timeout: askTimeout}, tcp: &dns.Client{Net: "tcp", Timeout: askTimeout},
	}
}

// ask forwards a query, as it was written: letters, flags and size. Who asked over TCP
// is asked for over TCP. Each query has a socket and an ID of its own, which a forger
// would have to guess.
func (f *forwarder) ask(ctx context.Context, q *dns.Msg, tcp bool) (*dns.Msg, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errOverloaded
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	client := f.udp
	if tcp {
		client = f.tcp
	}
	m := q.Copy()
	if opt := m.IsEdns0(); opt != nil {
		opt.SetUDPSize(min(opt.UDPSize(), maxUDP))
	}
	var failed []error
	var last *dns.Msg // an answer of no help is better than none
	start := f.first.Load()
	for i := range uint32(len(f.upstreams)) {
		at := (start + i) % uint32(len(f.upstreams))
		upstream := f.upstreams[at].String()
		m.Id = dns.Id()
		r, _, err := client.ExchangeContext(ctx, m, upstream)
		switch {
		case err != nil:
		case !sameQuestion(r, q):
			err = errMismatch
		case r.Rcode == dns.RcodeServerFailure || r.Rcode == dns.RcodeRefused || r.Rcode == dns.RcodeNotImplemented:
			last, err = r, errNoHelp
		default:
			f.first.Store(at)
			r.Id = q.Id
			return r, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", upstream, err))
		if ctx.Err() != nil {
			break
		}
	}
	if last != nil {
		last.Id = q.Id
		return last, nil
	}
	return nil, errors.Join(failed...)
}

// sameQuestion reports whether r answers q. The letters are compared without their
// case: some resolvers do not keep it.
func sameQuestion(r, q *dns.Msg) bool {
	if r == nil || !r.Response || len(r.Question) != 1 {
		return false
	}
	x, y := &r.Question[0], &q.Question[0]
	return x.Qtype == y.Qtype && x.Qclass == y.Qclass && strings.EqualFold(x.Name, y.Name)
}
