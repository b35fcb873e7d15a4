package sniway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/authority"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// helloTimeout bounds the wait for a whole ClientHello.
const helloTimeout = 10 * time.Second

// Why a connection is refused here: a closed vocabulary for logs and metrics.
const (
	ReasonNotTLS  = "not_tls"
	ReasonHello   = "client_hello_unreadable"
	ReasonTooLong = "client_hello_too_long"
	ReasonTimeout = "client_hello_timeout"
	ReasonNoName  = "no_server_name"
	ReasonUnknown = "unknown_server_name"
	ReasonNotPort = "port_is_not_tls"
	// reasonGone is a caller that left before it had said anything.
	reasonGone = "canceled"
)

// Options configure a Way. All fields but Default and Sample are required.
type Options struct {
	// Listener is what connections come from; its Accept gives only those that may be
	// served (accept.Listener).
	Listener net.Listener
	// Caller is who they are taken for.
	Caller string
	Names  Names
	// Default is where a ClientHello without a server name goes; zero: it is refused.
	Default authority.Name
	// Plan is the plan in force, nil before the first table.
	Plan    func() *route.Plan
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
	timeout time.Duration
}

// New returns a Way. It serves nothing before Run.
func New(o Options) (*Way, error) {
	if o.Listener == nil || o.Caller == "" || o.Plan == nil || !o.Carrier.Valid() || o.Account == nil {
		return nil, errors.New("sni way: an option is missing")
	}
	w := &Way{o: o, address: o.Listener.Addr().String(), timeout: helloTimeout}
	w.Loop = carry.Loop{Listener: o.Listener, Serve: w.serve}
	return w, nil
}

func (w *Way) serve(ctx context.Context, c net.Conn) {
	e := w.o.Account.Begin(account.WaySNI)
	e.Listener, e.Caller = w.address, w.o.Caller
	e.Sampled = w.o.Sample != nil && w.o.Sample()
	e.Trace = relay.NewTrace(e.Sampled) // TLS tells of none
	defer e.End()

	h, err := w.hello(ctx, c)
	var name authority.Name
	if err == nil {
		name, err = w.find(&h)
		e.Service, e.Port = name.Service, name.Port
	}
	if err != nil {
		var a alert
		e.Reason, a = judge(err)
		e.Err = err
		if a != 0 {
			a.send(c)
		}
		_ = c.Close() // it is over, whatever it says
		return
	}
	w.o.Carrier.Carry(ctx, carry.Passage{
		Near: c, Entry: e, First: h.bytes, Refused: func(err error) { because(err).send(c) },
		Call: attempt.Call{Service: name.Service, Port: name.Port, Pin: name.Cluster, Caller: w.o.Caller},
	})
}

// hello waits for the ClientHello, no longer than ctx.
func (w *Way) hello(ctx context.Context, c net.Conn) (hello, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	h, err := readHello(c, time.Now().Add(w.timeout))
	if !stop() {
		return h, context.Cause(ctx)
	}
	return h, err
}

// find says where a ClientHello goes.
func (w *Way) find(h *hello) (authority.Name, error) {
	name, err := w.o.Names.Parse(h.name)
	if errors.Is(err, ErrNoName) && !w.o.Default.Service.IsZero() {
		name, err = w.o.Default, nil
	}
	if err != nil {
		if h.ech {
			err = fmt.Errorf("%w (with encrypted_client_hello: what it really asks for is not seen)", err)
		}
		return name, err
	}
	plan := w.o.Plan()
	if plan == nil {
		return name, nil // that there is no table is the router's to say
	}
	if protocol, known := plan.Protocol(name.Service, name.Port); known && protocol != catalog.TLS {
		return name, fmt.Errorf("%s of %s is of protocol %s: %w", portName(name.Port), name.Service, protocol, errNotTLSPort)
	}
	return name, nil
}

var errNotTLSPort = errors.New("only ports of protocol tls take tls as it is")

func portName(port string) string {
	if port == "" {
		return "the default port"
	}
	return "port " + port
}

// judge is the reason of a failure, and the alert that tells the caller, 0 where it is
// not to be told or would not understand.
func judge(err error) (string, alert) {
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, ErrNotTLS):
		return ReasonNotTLS, 0
	case errors.Is(err, ErrTooLong):
		return ReasonTooLong, alertDecode
	case errors.Is(err, ErrHello):
		return ReasonHello, alertDecode
	case errors.Is(err, ErrNoName):
		return ReasonNoName, alertUnrecognizedName
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrReserved):
		return ReasonUnknown, alertUnrecognizedName
	case errors.Is(err, errNotTLSPort):
		return ReasonNotPort, alertUnrecognizedName
	case timeout != nil && timeout.Timeout():
		return ReasonTimeout, 0
	}
	return reasonGone, 0
}

// because is the alert for a call that found no way.
func because(err error) alert {
	failed, ok := errors.AsType[*attempt.Error](err)
	switch {
	case ok && failed.Denied:
		return alertAccessDenied
	case ok && failed.Reason == route.ReasonUnknownService:
		return alertUnrecognizedName
	}
	return alertInternal
}
