package proxyway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/authority"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// handshakeTimeout bounds all that a client says before it is connected: who only opens
// connections must not hold slots.
const handshakeTimeout = 10 * time.Second

// The reasons of this way that no decision and no far gateway gives.
const (
	ReasonMalformed = "malformed"
	ReasonMethod    = "method_not_allowed"
	ReasonName      = "unknown_authority"
	ReasonUser      = "unauthenticated"
	ReasonTimeout   = "handshake_timeout"
)

// errUser is a client that does not say who it is, or is not that.
var errUser = errors.New("no user of this listener, or the wrong password")

// User is who may use a listener, and whose identity it then has.
type User struct {
	Name, Password string
	// Caller is the SPIFFE ID that the user is taken for.
	Caller string
}

// Options configure a Way. Listener, Plan, Carrier, Account, and of Caller and Users one
// are required.
type Options struct {
	// Listener is what connections come from (accept.Listener).
	Listener net.Listener
	// Caller is who everyone who connects is taken for.
	Caller string
	// Users take the place of Caller: who connects must be one of them.
	Users []User
	// Plan is the plan in force, nil before the first table.
	Plan func() *route.Plan
	// Ports are the numbers that clients know ports by.
	Ports []ports.Rule
	// Virtual is whose a virtual address is; nil: nobody's.
	Virtual func(netip.Addr) (virtual.Key, bool)
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
	readers sync.Pool
}

// New returns a Way. It serves nothing before Run.
func New(o Options) (*Way, error) {
	if o.Listener == nil || (o.Caller == "") == (len(o.Users) == 0) || o.Plan == nil || !o.Carrier.Valid() || o.Account == nil {
		return nil, errors.New("proxy way: an option is missing")
	}
	w := &Way{
		o: o, address: o.Listener.Addr().String(), timeout: handshakeTimeout,
		readers: sync.Pool{New: func() any { return bufio.NewReaderSize(nil, maxHead) }},
	}
	w.Loop = carry.Loop{Listener: o.Listener, Serve: w.serve}
	return w, nil
}

// speaker is how a client's protocol says what became of its request.
type speaker interface {
	// connected is said before the first byte of the service.
	connected(c io.Writer) error
	// refused is said instead.
	refused(c io.Writer, e *account.Entry, err error)
}

func (w *Way) serve(ctx context.Context, c net.Conn) {
	e := w.o.Account.Begin(account.WayProxy)
	e.Listener, e.Caller = w.address, w.o.Caller
	e.Sampled = w.o.Sample != nil && w.o.Sample()
	e.Trace = relay.NewTrace(e.Sampled) // the bytes tell of none
	defer e.End()
	r := w.readers.Get().(*bufio.Reader)
	r.Reset(c)
	call, says, err := w.handshake(ctx, c, r, e)
	if err != nil {
		e.Reason, e.Err = reasonOf(err), err
		if says != nil {
			_ = c.SetWriteDeadline(time.Now().Add(w.timeout)) // fails only on what is closed
			says.refused(c, e, err)
		}
		_ = c.Close() // it is over, whatever it says
		w.put(r)
		return
	}
	first, _ := r.Peek(r.Buffered()) // what it has sent ahead of the answer
	w.o.Carrier.Carry(ctx, carry.Passage{
		Near: c, Call: call, Entry: e, First: first, Taken: func() { w.put(r) },
		Accepted: func() error { return says.connected(c) },
		Refused:  func(err error) { says.refused(c, e, err) },
	})
}

func (w *Way) put(r *bufio.Reader) {
	r.Reset(nil)
	w.readers.Put(r)
}

// handshake reads what a client wants. Without a speaker there is nobody who would
// understand an answer.
func (w *Way) handshake(ctx context.Context, c net.Conn, r *bufio.Reader, e *account.Entry) (call attempt.Call, says speaker, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(w.timeout)); err != nil {
		return call, nil, err
	}
	defer func() {
		if !stop() {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = c.SetDeadline(time.Time{})
		}
	}()
	version, err := r.Peek(1)
	if err != nil {
		return call, nil, err
	}
	switch version[0] {
	case socks5:
		call, err = w.socks(c, r, e)
		if err != nil && errors.Is(err, errUser) {
			return call, nil, err // it has been told
		}
		return call, socksSpeaker{}, err
	case socks4:
		return call, nil, errors.Join(errSOCKS, refuseSOCKS4(c))
	}
	call, err = w.connect(r, e)
	return call, httpSpeaker{}, err
}

// socks reads a SOCKS5 client's greeting and request.
func (w *Way) socks(c io.Writer, r *bufio.Reader, e *account.Entry) (call attempt.Call, err error) {
	u, err := negotiate(r, c, len(w.o.Users) > 0)
	if err != nil {
		return call, err
	}
	caller, known := w.callerOf(u)
	if u != nil {
		if err := authenticated(c, known); err != nil {
			return call, err
		}
	}
	if !known {
		return call, errUser
	}
	e.Caller = caller
	name, address, port, err := readRequest(r)
	if err != nil {
		return call, err
	}
	if address.IsValid() {
		return w.toAddress(caller, address, port, e)
	}
	return w.toName(caller, name, port, e)
}

// connect reads a CONNECT request.
func (w *Way) connect(r *bufio.Reader, e *account.Entry) (call attempt.Call, err error) {
	h, err := readHead(r)
	if err != nil {
		return call, err
	}
	caller, known := w.callerOf(h.user)
	if !known {
		return call, errUser
	}
	e.Caller = caller
	host, digits, err := net.SplitHostPort(h.authority)
	port, numberErr := strconv.ParseUint(digits, 10, 16)
	if err != nil || numberErr != nil || port == 0 {
		return call, &nameError{h.authority, "must be a name of the mesh and a port"}
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return w.toAddress(caller, address.Unmap(), uint16(port), e)
	}
	return w.toName(caller, host, uint16(port), e)
}

// callerOf is the identity of a user; of anybody, where there are no users.
func (w *Way) callerOf(u *user) (caller string, known bool) {
	if len(w.o.Users) == 0 {
		return w.o.Caller, true
	}
	if u == nil {
		return "", false
	}
	// The digests are compared, so that neither time nor length tells how near a guess is.
	name, password := sha256.Sum256([]byte(u.name)), sha256.Sum256([]byte(u.password))
	for _, have := range w.o.Users {
		n, p := sha256.Sum256([]byte(have.Name)), sha256.Sum256([]byte(have.Password))
		if subtle.ConstantTimeCompare(n[:], name[:])&subtle.ConstantTimeCompare(p[:], password[:]) == 1 {
			caller, known = have.Caller, true
		}
	}
	return caller, known
}

// nameError is a target that is none.
type nameError struct{ name, rule string }

func (e *nameError) Error() string {
	return "target " + strconv.QuoteToASCII(e.name[:min(len(e.name), 100)]) + ": " + e.rule
}

// toName is the call to a name of the mesh.
func (w *Way) toName(caller, name string, port uint16, e *account.Entry) (call attempt.Call, err error) {
	n, err := authority.Parse(name)
	if err != nil {
		return call, &nameError{name, "is no name of the mesh"}
	}
	return w.to(caller, virtual.Key{Service: n.Service, Cluster: n.Cluster}, n.Port, port, e)
}

// toAddress is the call to a virtual address, for clients that resolve names themselves.
func (w *Way) toAddress(caller string, address netip.Addr, port uint16, e *account.Entry) (call attempt.Call, err error) {
	if w.o.Virtual != nil {
		if k, ok := w.o.Virtual(address); ok {
			return w.to(caller, k, "", port, e)
		}
	}
	return call, &nameError{address.String(), "is no virtual address of a service; let the proxy resolve names (socks5h)"}
}

func (w *Way) to(caller string, k virtual.Key, named string, number uint16, e *account.Entry) (attempt.Call, error) {
	e.Service, e.Port = k.Service, named
	call := attempt.Call{Service: k.Service, Pin: k.Cluster, Port: named, Caller: caller}
	plan := w.o.Plan()
	if named != "" || plan == nil {
		return call, nil // that there is no table is the router's to say
	}
	port, ok := ports.Find(plan.Table(), w.o.Ports, k.Service, number)
	if !ok {
		return call, &attempt.Error{Reason: route.UnknownPort.String(), Service: k.Service}
	}
	call.Port, e.Port = port, port
	return call, nil
}

// reasonOf is the word for what went wrong in a handshake.
func reasonOf(err error) string {
	timeout, _ := errors.AsType[net.Error](err)
	name, _ := errors.AsType[*nameError](err)
	failed, _ := errors.AsType[*attempt.Error](err)
	code, _ := errors.AsType[*replyError](err)
	switch {
	case failed != nil:
		return failed.Reason
	case name != nil:
		return ReasonName
	case errors.Is(err, errUser):
		return ReasonUser
	case errors.Is(err, errMethod), code != nil && code.code == replyNoCommand:
		return ReasonMethod
	case errors.Is(err, errHead), errors.Is(err, errSOCKS), code != nil:
		return ReasonMalformed
	case timeout != nil && timeout.Timeout():
		return ReasonTimeout
	}
	return wire.Canceled.String()
}

// socksSpeaker speaks to SOCKS5 clients.
type socksSpeaker struct{}

func (socksSpeaker) connected(c io.Writer) error { return reply(c, replyOK) }

func (socksSpeaker) refused(c io.Writer, _ *account.Entry, err error) {
	if errors.Is(err, errSOCKS) {
		return // it would not understand
	}
	code := codeOf(err)
	if _, ok := errors.AsType[*nameError](err); ok {
		code = replyHost
	}
	_ = reply(c, code) // it may be gone
}

// httpSpeaker speaks to CONNECT clients.
type httpSpeaker struct{}

func (httpSpeaker) connected(c io.Writer) error {
	_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	return err
}

// refused answers with the problem, and ends the connection: what the client has sent
// ahead must not be read as a request.
func (httpSpeaker) refused(c io.Writer, e *account.Entry, err error) {
	answer := &answer{header: http.Header{}}
	p := problemOf(e, err)
	e.Status = p.Status
	switch p.Status {
	case http.StatusProxyAuthRequired:
		answer.header.Set("Proxy-Authenticate", `Basic realm="isthmus", charset="UTF-8"`)
	case http.StatusMethodNotAllowed:
		answer.header.Set("Allow", http.MethodConnect)
	}
	relay.WriteProblem(answer, &http.Request{Header: http.Header{}}, p)
	response := http.Response{
		StatusCode: answer.status, ProtoMajor: 1, ProtoMinor: 1, Header: answer.header, Close: true,
		Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len()),
	}
	_ = response.Write(c) // it may be gone
}

// problemOf says what went wrong, in HTTP's words.
func problemOf(e *account.Entry, err error) relay.Problem {
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return relay.ProblemOf(failed)
	}
	p := relay.Problem{Status: http.StatusBadRequest, Reason: reasonOf(err), Service: e.Service.String(), Detail: err.Error()}
	switch p.Reason {
	case ReasonName:
		p.Status = http.StatusNotFound
	case ReasonUser:
		p.Status = http.StatusProxyAuthRequired
	case ReasonMethod:
		p.Status = http.StatusMethodNotAllowed
	case ReasonTimeout:
		p.Status = http.StatusRequestTimeout
	}
	return p
}

// answer takes what would be written to a client of net/http.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
