package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpSize is what an answer over UDP may have: it crosses any network in one
	// piece.
	udpSize = 1232
	// maxChain bounds the CNAMEs that are followed for one name.
	maxChain = 8
	// maxRecords bounds one answer: an address takes 16 bytes of a message of 64
	// KiB.
	maxRecords = 4096
)

// reason is why a name could not be resolved: a closed set, since it is a label.
type reason string

const (
	timeout  reason = "timeout"  // no answer in time
	network  reason = "network"  // the resolver is not to be reached
	servfail reason = "servfail" // SERVFAIL
	refused  reason = "refused"  // REFUSED, NOTAUTH and other codes that say no
	answer   reason = "answer"   // it makes no sense, or is beyond a bound
)

// queryError is one resolver's failure.
type queryError struct {
	reason reason
	text   string
}

func (e *queryError) Error() string { return e.text }

func failed(r reason, format string, args ...any) error {
	return &queryError{r, fmt.Sprintf(format, args...)}
}

// classify is the reason of a failure.
func classify(err error) reason {
	if e, ok := errors.AsType[*queryError](err); ok {
		return e.reason
	}
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &netErr) && netErr.Timeout()) {
		return timeout
	}
	return network
}

// exchange asks one resolver; tcp says how.
type exchange func(ctx context.Context, resolver string, m *dns.Msg, tcp bool) (*dns.Msg, error)

// wire is exchange over the network. The library draws random IDs, reads on where
// an answer's is another one, and binds its sockets to the resolver.
func wire(timeout time.Duration) exchange {
	udp := &dns.Client{Net: "udp", Timeout: timeout, UDPSize: udpSize}
	tcp := &dns.Client{Net: "tcp", Timeout: timeout}
	return func(ctx context.Context, resolver string, m *dns.Msg, overTCP bool) (*dns.Msg, error) {
		c := udp
		if overTCP {
			c = tcp
		}
		r, _, err := c.ExchangeContext(ctx, m, resolver)
		return r, err
	}
}

// asker asks the resolvers.
type asker struct {
	resolvers []string
	timeout   time.Duration
	tcp       bool
	exchange  exchange
	metrics   *metrics
	// first is the resolver that answered last.
	first atomic.Int32
}

// ask returns the first conclusive answer: NOERROR or NXDOMAIN.
func (a *asker) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	first := int(a.first.Load())
	var errs []error
	for i := range a.resolvers {
		n := (first + i) % len(a.resolvers)
		r, err := a.askOne(ctx, a.resolvers[n], name, qtype)
		if err == nil {
			a.first.Store(int32(n))
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		a.metrics.failures.WithLabelValues(string(classify(err))).Inc()
		errs = append(errs, fmt.Errorf("%s: %w", a.resolvers[n], err))
	}
	return nil, fmt.Errorf("%s %s: %w", name, dns.TypeToString[qtype], errors.Join(errs...))
}

func (a *asker) askOne(ctx context.Context, resolver, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(udpSize, false)
	r, err := a.send(ctx, resolver, m, a.tcp)
	if err == nil && r.Rcode == dns.RcodeFormatError {
		m.Extra = nil // it does not know EDNS0
		r, err = a.send(ctx, resolver, m, a.tcp)
	}
	if err == nil && r.Truncated && !a.tcp {
		a.metrics.truncated.Inc()
		r, err = a.send(ctx, resolver, m, true)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case r.Truncated:
		return nil, failed(answer, "the answer is cut over TCP, too")
	case r.Rcode == dns.RcodeServerFailure:
		return nil, failed(servfail, "SERVFAIL")
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, failed(refused, "%s", rcode(r.Rcode))
	case len(r.Answer) > maxRecords:
		return nil, failed(answer, "the answer has %d records, more than %d", len(r.Answer), maxRecords)
	}
	return r, nil
}

func rcode(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("the response code %d", code)
}

func (a *asker) send(ctx context.Context, resolver string, m *dns.Msg, tcp bool) (*dns.Msg, error) {
	a.metrics.queries.Inc()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	r, err := a.exchange(ctx, resolver, m, tcp)
	if err != nil {
		return nil, err
	}
	// An answer to another question is somebody else's, or a lie.
	if !r.Response || r.Id != m.Id || len(r.Question) != 1 ||
		!strings.EqualFold(r.Question[0].Name, m.Question[0].Name) || r.Question[0].Qtype != m.Question[0].Qtype {
		return nil, failed(answer, "the answer is to another question")
	}
	return r, nil
}

// found is what a name has of a type.
type found struct {
	records []dns.RR
	// exists is false for NXDOMAIN.
	exists bool
	// ttl is the least of all that led here.
	ttl time.Duration
}

// lookup resolves a name, through CNAMEs.
func (a *asker) lookup(ctx context.Context, name string, qtype uint16) (found, error) {
	out := found{ttl: maxMaxTTL}
	seen := map[string]bool{}
	for {
		r, err := a.ask(ctx, name, qtype)
		if err != nil {
			return found{}, err
		}
		end, err := out.follow(r, name, qtype, seen)
		switch {
		case err != nil:
			return found{}, fmt.Errorf("%s %s: %w", name, dns.TypeToString[qtype], err)
		case len(out.records) > 0:
			out.exists = true
			return out, nil
		}
		// A chain that ends without a word of its end is for us to go on with.
		if said := out.negative(r); said || end == name || r.Rcode == dns.RcodeNameError {
			if !said {
				out.ttl = 0 // nothing says how long that holds
			}
			out.exists = r.Rcode != dns.RcodeNameError
			return out, nil
		}
		name = end
		delete(seen, dns.CanonicalName(end)) // it is asked for now
	}
}

var errChain = failed(answer, "more than %d aliases, or a circle of them", maxChain)

// follow walks the aliases of an answer from name to its end, and takes the
// records that are there.
func (f *found) follow(r *dns.Msg, name string, qtype uint16, seen map[string]bool) (end string, err error) {
	end = name
	for {
		key := dns.CanonicalName(end)
		if seen[key] || len(seen) >= maxChain {
			return "", errChain
		}
		seen[key] = true
		next := ""
		for _, rr := range r.Answer {
			h := rr.Header()
			if dns.CanonicalName(h.Name) != key || h.Class != dns.ClassINET {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok && qtype != dns.TypeCNAME {
				next = c.Target
				f.least(h.Ttl)
			}
			if h.Rrtype == qtype {
				f.records = append(f.records, rr)
				f.least(h.Ttl)
			}
		}
		if len(f.records) > 0 || next == "" {
			return end, nil
		}
		end = next
	}
}

// negative takes the TTL of "there is none" from the zone's SOA record, and
// reports whether there is one.
func (f *found) negative(r *dns.Msg) bool {
	for _, rr := range r.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			f.least(min(soa.Hdr.Ttl, soa.Minttl))
			return true
		}
	}
	return false
}

func (f *found) least(ttl uint32) { f.ttl = min(f.ttl, time.Duration(ttl)*time.Second) }
