package dnsway

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxUDP is the largest answer over UDP: it crosses every network in one piece
	// (RFC 9715).
	maxUDP = 1232
	// ednsVersion is the only one there is.
	ednsVersion = 0
)

// ServeDNS answers one query.
func (w *Way) ServeDNS(rw dns.ResponseWriter, q *dns.Msg) {
	from, tcp := addressOf(rw.RemoteAddr())
	if turn, ok := w.rate.take(from, time.Now()); !ok {
		w.metrics.dropped.WithLabelValues(droppedRate).Inc()
		if tcp {
			_ = rw.Close() // it may come again
		} else if turn%2 == 0 {
			m := new(dns.Msg)
			m.SetReply(q)
			m.Truncated = true
			w.write(rw, m)
		}
		return
	}
	kind, m := w.reply(q, tcp)
	size := dns.MaxMsgSize
	if !tcp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), maxUDP))
		}
	}
	before := m.Truncated
	m.Truncate(size)
	if m.Truncated && !before {
		w.metrics.cut.Inc()
	}
	rcode := m.Rcode
	w.metrics.count(kind, rcode)
	w.write(rw, m)
}

func (w *Way) write(rw dns.ResponseWriter, m *dns.Msg) {
	if err := rw.WriteMsg(m); err != nil {
		w.o.Log.Debug("dns answer cannot be sent", "err", err)
	}
}

// reply makes the whole answer.
func (w *Way) reply(q *dns.Msg, tcp bool) (kind string, m *dns.Msg) {
	m = new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	m.RecursionAvailable = w.forward != nil
	opts := 0
	for _, rr := range q.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opts++
		}
	}
	if opts > 1 {
		m.Rcode = dns.RcodeFormatError
		return kindRefused, m
	}
	asked := q.IsEdns0()
	if asked != nil {
		m.SetEdns0(maxUDP, asked.Do())
		if asked.Version() != ednsVersion {
			m.Rcode = dns.RcodeBadVers
			return kindRefused, m
		}
	}
	question := &q.Question[0]
	kind, a := w.find(question)
	if kind == kindForward {
		return w.pass(q, m, tcp)
	}
	m.Rcode, m.Authoritative = a.rcode, a.authoritative
	m.Answer = a.records
	m.Extra = append(a.extra, m.Extra...)
	if a.authoritative && len(a.records) == 0 {
		m.Ns = []dns.RR{w.soa(a.apex)}
	}
	if opt := m.IsEdns0(); opt != nil && a.note != "" {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: a.noteCode, ExtraText: a.note})
	}
	return kind, m
}

// find decides who answers a question, and answers it if that is this server.
func (w *Way) find(q *dns.Question) (kind string, a answer) {
	refused := answer{rcode: dns.RcodeRefused}
	if q.Qclass != dns.ClassINET || q.Qtype >= dns.TypeTKEY && q.Qtype <= dns.TypeMAILA {
		return kindRefused, refused // other classes, transfers and what is no record
	}
	if dns.IsSubDomain(zone, lower(q.Name)) {
		return kindMesh, w.inZone(q)
	}
	if at, err := reverseAddress(q.Name); err == nil && w.o.Book.Range().Contains(at) {
		return kindReverse, w.inReverse(q, at)
	}
	if w.forward != nil {
		return kindForward, a
	}
	return kindRefused, refused
}

// pass hands a query to the resolvers. own is the answer if they give none.
func (w *Way) pass(q, own *dns.Msg, tcp bool) (kind string, m *dns.Msg) {
	if !q.RecursionDesired { // there is nothing here that was remembered
		own.Rcode = dns.RcodeRefused
		return kindRefused, own
	}
	r, err := w.forward.ask(w.serving, q, tcp)
	if err != nil {
		result := "failed"
		if errors.Is(err, errOverloaded) {
			result = "overloaded"
		}
		w.metrics.forwards.WithLabelValues(result).Inc()
		if w.mayComplain() {
			w.o.Log.Warn("dns query cannot be forwarded", "err", err)
		}
		own.Rcode = dns.RcodeServerFailure
		if opt := own.IsEdns0(); opt != nil {
			opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNetworkError, ExtraText: "no resolver answers"})
		}
		return kindForward, own
	}
	w.metrics.forwards.WithLabelValues("answered").Inc()
	r.Question = q.Question // with its letters
	r.Compress = true
	r.RecursionAvailable = true
	return kindForward, r
}

// accept judges a query's header, before the rest is read.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	switch {
	case h.Bits&response != 0:
		return dns.MsgIgnore // answering answers is how two servers keep each other busy
	case int(h.Bits>>11)&0xF != dns.OpcodeQuery:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1 || h.Ancount != 0 || h.Nscount != 0 || h.Arcount > 2:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// reader drops what comes over UDP from elsewhere than the sources, and what is far over
// the rate, before it is read and before anything is answered.
type reader struct {
	dns.Reader
	w *Way
}

// ReadUDP implements dns.Reader.
func (r *reader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	for {
		m, session, err := r.Reader.ReadUDP(conn, timeout)
		if err != nil || r.w.welcome(session.RemoteAddr()) {
			return m, session, err
		}
	}
}

// ReadPacketConn implements dns.PacketConnReader, for what is no UDP socket.
func (r *reader) ReadPacketConn(conn net.PacketConn, timeout time.Duration) ([]byte, net.Addr, error) {
	for {
		inner, ok := r.Reader.(dns.PacketConnReader)
		if !ok {
			return nil, nil, errors.ErrUnsupported
		}
		m, from, err := inner.ReadPacketConn(conn, timeout)
		if err != nil || r.w.welcome(from) {
			return m, from, err
		}
	}
}

func (w *Way) welcome(addr net.Addr) bool {
	from, _ := addressOf(addr)
	allowed := len(w.o.Sources) == 0
	for _, p := range w.o.Sources {
		allowed = allowed || p.Contains(from)
	}
	if !allowed {
		w.metrics.dropped.WithLabelValues(droppedSource).Inc()
		return false
	}
	if _, ok := w.flood.take(from, time.Now()); !ok {
		w.metrics.dropped.WithLabelValues(droppedRate).Inc()
		return false
	}
	return true
}

// addressOf is who asks, and whether over TCP.
func addressOf(a net.Addr) (from netip.Addr, tcp bool) {
	switch a := a.(type) {
	case *net.UDPAddr:
		from = a.AddrPort().Addr()
	case *net.TCPAddr:
		from, tcp = a.AddrPort().Addr(), true
	}
	return from.Unmap().WithZone(""), tcp
}
