package mesh

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// lineTimeout is how long a gateway may take to read one line: a table of
	// many megabytes, on the own network.
	lineTimeout = 30 * time.Second
	// maxAddresses bounds what one gateway advertises.
	maxAddresses = 16
)

// handler sends each request to the group that the caller's ID belongs to.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+TablePath, s.asGateway(s.serveTable))
	mux.HandleFunc("POST "+ReportPath, s.asGateway(s.serveReport))
	mux.HandleFunc(ExchangePrefix, s.asPeer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK, taken: s.taken}
		defer rec.end(s.conns)
		mux.ServeHTTP(rec, r)
		route := r.Pattern
		if _, path, ok := strings.Cut(route, " "); ok {
			route = path
		}
		if route == "" {
			route = "other"
		}
		s.metrics.requests.WithLabelValues(route, strconv.Itoa(rec.status)).Inc()
	})
}

// roleOf judges a request by the peers of now: a connection may be older.
func (s *Server) roleOf(r *http.Request) (role, error) {
	id, err := peerOf(r)
	if err != nil {
		return role{}, err
	}
	return s.roles.of(id)
}

func (s *Server) asGateway(next func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.roleOf(r)
		if err != nil || who.gateway == "" {
			s.refuse(w, r, "this path is for gateways of this cluster")
			return
		}
		next(w, r, who.gateway)
	}
}

func (s *Server) asPeer(w http.ResponseWriter, r *http.Request) {
	who, err := s.roleOf(r)
	if err != nil || who.peer == "" {
		s.refuse(w, r, "this path is for the federations of configured peers")
		return
	}
	h := s.opts.Exchange(who.peer)
	if h == nil {
		s.refuse(w, r, "this peer is no longer configured")
		return
	}
	h.ServeHTTP(w, r)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, detail string) {
	id, _ := peerOf(r)
	s.log.Warn("request refused", "spiffe_id", id.String(), "path", r.URL.Path, "reason", detail)
	writeProblem(w, http.StatusForbidden, "forbidden", detail)
}

func writeProblem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(resource.Problem{
		Type: resource.ProblemPrefix + code, Title: http.StatusText(status), Status: status, Detail: detail,
	})
}

// serveTable streams tables to one gateway until it goes.
func (s *Server) serveTable(w http.ResponseWriter, r *http.Request, gateway string) {
	have, err := havePosition(r)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	s.log.Info("table stream open", "gateway", gateway, "epoch", have.epoch, "version", have.version)
	defer s.log.Info("table stream ended", "gateway", gateway)
	w.Header().Set("Content-Type", "application/jsonl")
	rc := http.NewResponseController(w)
	write := func(line []byte) error {
		_ = rc.SetWriteDeadline(time.Now().Add(lineTimeout))
		_, err := w.Write(line)
		return errors.Join(err, rc.Flush())
	}
	// The header goes out at once: without it the gateway could not tell a silent
	// federation from one without a table.
	if rc.Flush() != nil {
		return
	}
	beat := time.NewTicker(HeartbeatEvery)
	defer beat.Stop()
	out := tableStream{server: s, gateway: gateway, write: write, patches: r.URL.Query().Get("patch") == strconv.Itoa(PatchFormat)}
	for told := uint64(0); ; {
		now, changed := s.tables.position()
		switch {
		case have.epoch > now.epoch && have.epoch != told:
			told = have.epoch
			s.opts.Ahead(gateway, have.epoch)
			continue // the answer may be there already
		case have.before(now):
			if have, err = out.send(have); err != nil {
				s.log.Debug("table not sent", "gateway", gateway, "err", err)
				return
			}
			continue // there may be more already
		}
		select {
		case <-changed:
		case <-beat.C:
			line, _ := json.Marshal(TableLine{Heartbeat: &Heartbeat{Epoch: now.epoch, Version: now.version}})
			if write(append(line, '\n')) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// tableStream is what one gateway is sent.
type tableStream struct {
	server  *Server
	gateway string
	write   func([]byte) error
	patches bool // the gateway takes them
}

// send brings a gateway from have to a newer table, and returns its position.
func (o *tableStream) send(have position) (position, error) {
	t, m := o.server.tables, o.server.metrics
	if !o.patches {
		line, at, err := t.line()
		if err != nil {
			o.server.log.Error("table not sent, the gateway keeps the one before", "gateway", o.gateway, "epoch", at.epoch, "version", at.version, "err", err)
			return have, err
		}
		m.tableBytes.Set(float64(len(line)))
		return at, o.lines("table", [][]byte{line})
	}
	if lines, at, ok := t.patches(have); ok {
		return at, o.lines("patch", lines)
	}
	lines, at, done, err := t.open()
	defer done()
	if err != nil {
		return have, err
	}
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	m.tableBytes.Set(float64(size))
	return at, o.lines("full", lines)
}

func (o *tableStream) lines(kind string, lines [][]byte) error {
	for _, l := range lines {
		if err := o.write(l); err != nil {
			return err
		}
		o.server.metrics.sentBytes.WithLabelValues(kind).Add(float64(len(l)))
	}
	o.server.metrics.sent.WithLabelValues(kind).Inc()
	return nil
}

func havePosition(r *http.Request) (position, error) {
	var p position
	for name, into := range map[string]*uint64{"epoch": &p.epoch, "version": &p.version} {
		value := r.URL.Query().Get(name)
		if value == "" {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return p, fmt.Errorf("%s %q: must be a number", name, value)
		}
		*into = n
	}
	return p, nil
}

// serveReport takes one report.
func (s *Server) serveReport(w http.ResponseWriter, r *http.Request, gateway string) {
	var buf bytes.Buffer
	const most = 1 << 20 // room for what is announced, within reason
	buf.Grow(int(min(max(r.ContentLength, 0), most)) + bytes.MinRead)
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, MaxReportBytes)); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			writeProblem(w, http.StatusRequestEntityTooLarge, "too-large", err.Error())
		}
		return // otherwise the gateway has gone
	}
	report, err := decodeReport(buf.Bytes(), s.linksOf(gateway))
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	if err := s.checkReport(gateway, report); err != nil {
		s.log.Warn("report refused", "gateway", gateway, "err", err)
		writeProblem(w, http.StatusForbidden, "forbidden", err.Error())
		return
	}
	s.links.Store(gateway, report.Links) // of as many gateways as there are certificates
	if err := s.opts.Report(report); err != nil {
		s.log.Warn("report refused", "gateway", gateway, "err", err)
		writeProblem(w, http.StatusServiceUnavailable, "refused", err.Error())
		return
	}
	if !report.TakesShares || s.opts.Shares == nil {
		w.WriteHeader(http.StatusNoContent) // all that gateways from before shares know
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.opts.Shares(report)) // the gateway has gone, or has it
}

// linksOf are those that the gateway has reported last.
func (s *Server) linksOf(gateway string) []route.LinkReport {
	if links, ok := s.links.Load(gateway); ok {
		return links.([]route.LinkReport)
	}
	return nil
}

// checkReport refuses a gateway that speaks for another, and addresses that
// nobody could dial.
func (s *Server) checkReport(gateway string, r *route.Report) error {
	id, err := GatewayID(s.opts.Cluster, gateway)
	if err != nil {
		return err
	}
	if r.Gateway.Name != gateway || r.Gateway.ID != id.String() {
		return fmt.Errorf("gateway %q with id %q: the certificate is of %s", r.Gateway.Name, r.Gateway.ID, id)
	}
	if len(r.Gateway.Addresses) > maxAddresses {
		return fmt.Errorf("addresses: has %d entries, at most %d", len(r.Gateway.Addresses), maxAddresses)
	}
	for _, a := range append([]string{r.Control}, r.Gateway.Addresses...) {
		if a == "" && r.Control == "" {
			continue // no control listener: this gateway carries no exchange
		}
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("address %q: must be host:port", a)
		}
	}
	return r.Locality.Validate()
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status  int
	written bool
	taken   *takeovers
	conn    net.Conn // the handler has taken over
}

// Hijack gives the connection to the handler, for as long as that runs.
func (r *statusRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !r.taken.begin() {
		return nil, nil, http.ErrServerClosed
	}
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err != nil {
		r.taken.running.Done()
		return nil, nil, err
	}
	r.conn, r.status, r.written = conn, http.StatusSwitchingProtocols, true
	return conn, rw, nil
}

// end is called after the handler.
func (r *statusRecorder) end(c *conns) {
	if r.conn != nil {
		c.forget(r.conn)
		r.taken.running.Done()
	}
}

// WriteHeader records the first status.
func (r *statusRecorder) WriteHeader(status int) {
	if !r.written {
		r.status, r.written = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush lets streams of handlers that ask for http.Flusher through.
func (r *statusRecorder) Flush() {
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}
