package tcpway

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/preface"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

// firstBytes is how many bytes that have already arrived ride with the header:
// what fits into the first packets of a flight.
const firstBytes = 4 << 10

// reasonPreface is that of a connection whose balancer did not say for whom it is, or for
// somebody who may not connect.
const reasonPreface = "proxy_protocol"

// Target is where a connection goes.
type Target struct {
	Service catalog.ServiceName
	Port    string
	// Pin restricts it to one cluster.
	Pin catalog.ClusterName
}

// Options configure a Way. All fields but Port and Sample are required, of Service and Find
// one, and of Caller and Door one.
type Options struct {
	// Listener is what connections come from; its Accept gives only those that
	// may be served (accept.Listener).
	Listener net.Listener
	// Service and Port are where every connection goes; Caller is who they are
	// taken for.
	Service catalog.ServiceName
	Port    string
	Caller  string
	// Find takes the place of Service and Port: it says where a connection goes, by the
	// address that it came in on. One that goes nowhere is reset.
	Find func(local net.Addr) (Target, bool)
	// Preface is read first: a balancer says for whom it connects. Nil: nothing is.
	Preface *preface.Reader
	// Door takes the place of Caller: who connects proves who it is.
	Door    *workload.Door
	Carrier *carry.Carrier
	Account *account.Account
	// Sample decides which ordinary connections are kept to be explained; nil: none.
	Sample func() bool
}

// Way serves one listener.
type Way struct {
	carry.Loop

	o       Options
	address string
	first   sync.Pool
}

// New returns a Way. It serves nothing before Run.
func New(o Options) (*Way, error) {
	if o.Listener == nil || o.Service.IsZero() == (o.Find == nil) || (o.Caller == "") == (o.Door == nil) || o.Door != nil && o.Preface != nil || !o.Carrier.Valid() || o.Account == nil {
		return nil, errors.New("tcp way: an option is missing")
	}
	w := &Way{
		o: o, address: o.Listener.Addr().String(),
		first: sync.Pool{New: func() any { return new([firstBytes]byte) }},
	}
	w.Loop = carry.Loop{Listener: o.Listener, Serve: w.serve}
	return w, nil
}

func (w *Way) serve(ctx context.Context, c net.Conn) {
	target, address := Target{Service: w.o.Service, Port: w.o.Port}, w.address
	if w.o.Find != nil {
		var ok bool
		address = c.LocalAddr().String()
		if target, ok = w.o.Find(c.LocalAddr()); !ok { // it has gone a moment ago
			w.o.Account.Refuse(account.WayTCP, address, route.ReasonUnknownService, c.RemoteAddr().String())
			splice.TCP(c).Reset(wire.Refused)
			return
		}
	}
	way, call := account.WayTCP, attempt.Call{Service: target.Service, Port: target.Port, Pin: target.Pin, Caller: w.o.Caller}
	if w.o.Door != nil {
		way = account.WayMTLS
	}
	e := w.o.Account.Begin(way)
	e.Listener, e.Service, e.Port, e.Caller = address, target.Service, target.Port, w.o.Caller
	e.Sampled = w.o.Sample != nil && w.o.Sample()
	e.Trace = relay.NewTrace(e.Sampled) // the bytes tell of none
	defer e.End()
	var rest []byte
	if w.o.Preface != nil {
		var err error
		if rest, err = w.preface(ctx, c, &call); err != nil {
			e.Reason, e.Err = reasonPreface, err
			splice.TCP(c).Reset(wire.Refused)
			return
		}
	}
	if w.o.Door != nil {
		entered, guest, err := w.o.Door.Enter(ctx, c)
		if err != nil {
			e.Reason, e.Err = workload.Reason(err), err
			_ = c.Close() // TLS has told the caller what it may know
			return
		}
		defer guest.Leave()
		ctx, c = entered, guest.Conn
		call.Caller, call.Assurance = guest.Caller, wire.AssuranceMTLS
		e.Caller = guest.Caller
	}
	if len(rest) > 0 {
		w.o.Carrier.Carry(ctx, carry.Passage{Near: c, Call: call, First: rest, Entry: e})
		return
	}
	buffer := w.first.Get().(*[firstBytes]byte)
	n := available(c, buffer[:])
	w.o.Carrier.Carry(ctx, carry.Passage{
		Near: c, Call: call, First: buffer[:n], Taken: func() { w.first.Put(buffer) }, Entry: e,
	})
}

// preface reads for whom a balancer connects, no longer than ctx, and returns what came
// behind that.
func (w *Way) preface(ctx context.Context, c net.Conn, call *attempt.Call) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	from, rest, err := w.o.Preface.Read(c)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if from.IsValid() {
		call.Source = from.String()
	}
	return rest, err
}
