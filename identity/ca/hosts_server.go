package ca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/net/netutil"
)

const (
	// maxHostConns bounds connections: each host holds two.
	maxHostConns = 2*maxHosts + 200
	// configWait is how long a question for news waits for some.
	configWait        = 25 * time.Second
	hostHeaderTimeout = 5 * time.Second
	hostReadTimeout   = 10 * time.Second
	hostWriteTimeout  = configWait + 30*time.Second
	hostIdleTimeout   = time.Minute
	maxHostHeader     = 16 << 10
	hostStopTimeout   = 2 * time.Second
)

// serveHosts serves hostapi until ctx ends.
func (c *CA) serveHosts(ctx context.Context) error {
	var lc net.ListenConfig
	raw, err := lc.Listen(ctx, "tcp", c.cfg.Hosts.Address)
	if err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	mux := http.NewServeMux()
	s := hostServer{ca: c, hosts: c.hosts}
	mux.HandleFunc("POST /v1/join", handle(s, hostapi.ALPNJoin, s.join))
	mux.HandleFunc("POST /v1/renew", handle(s, hostapi.ALPNHost, s.renew))
	mux.HandleFunc("POST /v1/sign", handle(s, hostapi.ALPNHost, s.sign))
	mux.HandleFunc("GET /v1/config", handle(s, hostapi.ALPNHost, s.config))
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: hostHeaderTimeout, ReadTimeout: hostReadTimeout, WriteTimeout: hostWriteTimeout,
		IdleTimeout: hostIdleTimeout, MaxHeaderBytes: maxHostHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	c.log.Info("hosts may join", "address", raw.Addr().String())
	return serveUntil(ctx, srv, hostListener{netutil.LimitListener(raw, maxHostConns), c.hostTLS()})
}

// hostListener hands connections to net/http that do not look like TLS to it: it
// drops those of a protocol that it does not know, and ours are HTTP/1.1 under
// other names.
type hostListener struct {
	net.Listener
	config *tls.Config
}

// Accept implements net.Listener. The handshake is the first read's, within the
// time for the header.
func (l hostListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hostConn{tls.Server(raw, l.config)}, nil
}

type hostConn struct{ *tls.Conn }

type connKey struct{}

// tlsOf is the state of the connection that a request came by.
func tlsOf(r *http.Request) tls.ConnectionState {
	conn, ok := r.Context().Value(connKey{}).(hostConn)
	if !ok {
		return tls.ConnectionState{}
	}
	return conn.ConnectionState()
}

// serveUntil serves until ctx ends, and lets requests under way finish.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostStopTimeout)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(l)
	if stop() { // it failed by itself
		return err
	}
	<-stopped
	return nil
}

// hostTLS shows the CA's SVID to both protocols, and asks for the host's in one.
func (c *CA) hostTLS() *tls.Config {
	below := authorityID(c.cfg.TrustDomain).String() + strings.TrimPrefix(hostapi.HostPath, hostapi.AuthorityPath)
	host := c.self.ServerTLS([]string{hostapi.ALPNHost}, identity.AuthorizeFunc(func(id spiffeid.ID) bool {
		return strings.HasPrefix(id.String(), below)
	}))
	join := c.self.EndpointServerTLS()
	join.NextProtos = []string{hostapi.ALPNJoin}
	joins := host.Clone()
	joins.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, hostapi.ALPNJoin) {
			return join, nil
		}
		return host.GetConfigForClient(hello)
	}
	return joins
}

// hostServer answers hosts.
type hostServer struct {
	ca    *CA
	hosts *hosts
}

// asking is who asks: a host that has joined, or with ALPNJoin nobody yet.
type asking struct {
	host, serial string
	record       hostRecord
}

// handle reads a request of one protocol, answers it by f, and counts.
func handle[In, Out any](s hostServer, alpn string, f func(context.Context, asking, *http.Request, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var out Out
		who, err := s.who(r, alpn)
		var in In
		if err == nil && r.Method == http.MethodPost {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, hostapi.MaxRequest))
			d.DisallowUnknownFields()
			if derr := d.Decode(&in); derr != nil {
				err = hostapi.Refuse(hostapi.CodeMalformed, "body: %v", derr)
			} else if _, derr := d.Token(); !errors.Is(derr, io.EOF) {
				err = hostapi.Refuse(hostapi.CodeMalformed, "body: more than one document")
			}
		}
		if err == nil {
			out, err = f(r.Context(), who, r, in)
		}
		w.Header().Set("Content-Type", "application/json")
		if err == nil {
			s.ca.metrics.hostRequests.WithLabelValues("served").Inc()
			_ = json.NewEncoder(w).Encode(out)
			return
		}
		refusal, ok := errors.AsType[*hostapi.Error](err)
		if !ok {
			s.ca.log.Error("request of a host failed", "caller", who.host, "err", err)
			refusal = hostapi.Refuse(hostapi.CodeInternal, "the ca cannot answer")
		} else if s.ca.logged.AllowN(s.ca.now(), 1) {
			s.ca.log.Warn("host refused", "caller", who.host, "address", r.RemoteAddr, "reason", string(refusal.Code), "err", err)
		}
		s.ca.metrics.hostRequests.WithLabelValues(string(refusal.Code)).Inc()
		w.WriteHeader(refusal.Status())
		_ = json.NewEncoder(w).Encode(refusal)
	}
}

// who is the host of the connection; what belongs to the other protocol is not
// there.
func (s hostServer) who(r *http.Request, alpn string) (asking, error) {
	state := tlsOf(r)
	if state.NegotiatedProtocol != alpn {
		return asking{}, hostapi.Refuse(hostapi.CodeMalformed, "%s is not asked with %s", r.URL.Path, alpn)
	}
	if alpn == hostapi.ALPNJoin {
		if !s.hosts.joins.AllowN(s.ca.now(), 1) {
			return asking{}, hostapi.Refuse(hostapi.CodeBusy, "too many try to join")
		}
		return asking{}, nil
	}
	id, err := identity.PeerID(state)
	if err != nil {
		return asking{}, hostapi.Refuse(hostapi.CodeSVID, "no svid")
	}
	// Connections outlive their handshake, and SVIDs expire.
	if _, err := s.ca.self.VerifyPeer(state.PeerCertificates); err != nil {
		return asking{}, hostapi.Refuse(hostapi.CodeSVID, "svid is no longer good")
	}
	a := asking{host: strings.TrimPrefix(id.Path(), hostapi.HostPath), serial: state.PeerCertificates[0].SerialNumber.Text(16)}
	a.record, err = s.hosts.admit(a.host, a.serial)
	return a, err
}

func (s hostServer) join(_ context.Context, _ asking, _ *http.Request, in hostapi.Join) (hostapi.Certified, error) {
	cert, err := s.hosts.join(in)
	if err != nil {
		return hostapi.Certified{}, err
	}
	return hostapi.Certified{Certificate: cert.Raw}, nil
}

func (s hostServer) renew(_ context.Context, who asking, _ *http.Request, in hostapi.Renew) (hostapi.Certified, error) {
	cert, err := s.hosts.renew(who.host, who.serial, in.CSR)
	if err != nil {
		return hostapi.Certified{}, err
	}
	return hostapi.Certified{Certificate: cert.Raw}, nil
}

// sign signs what the host has entries for: all of a request, or nothing.
func (s hostServer) sign(_ context.Context, who asking, _ *http.Request, in hostapi.Sign) (hostapi.Signed, error) {
	if n := len(in.Requests); n == 0 || n > hostapi.MaxSign {
		return hostapi.Signed{}, hostapi.Refuse(hostapi.CodeMalformed, "requests: %d: must be 1 to %d", n, hostapi.MaxSign)
	}
	v := s.ca.view.Load()
	entries, _ := s.hosts.entriesOf(v, who.host)
	var out hostapi.Signed
	now := s.ca.now()
	for _, r := range in.Requests {
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.ID.String() == r.ID })
		if i < 0 {
			return hostapi.Signed{}, hostapi.Refuse(hostapi.CodeNotEntitled, "host %s has no entry for %.200q", who.host, r.ID)
		}
		csr, err := parseCSR(r.CSR)
		if err != nil {
			return hostapi.Signed{}, err
		}
		cert, err := v.roots.certify(entries[i].ID, csr.PublicKey, now, s.ca.cfg.SVIDTTL)
		if err != nil {
			return hostapi.Signed{}, err
		}
		s.ca.issued(cert, entries[i].ID, now, "caller", who.host)
		out.Certificates = append(out.Certificates, hostapi.Certified{Certificate: cert.Raw})
	}
	return out, nil
}

// config answers when it has something else than the version that the host has,
// or after configWait.
func (s hostServer) config(ctx context.Context, who asking, r *http.Request, _ struct{}) (hostapi.Config, error) {
	wait := time.NewTimer(configWait)
	defer wait.Stop()
	for {
		v := s.ca.view.Load()
		entries, changed := s.hosts.entriesOf(v, who.host)
		c, err := configOf(v, entries)
		if err != nil || c.Version != r.URL.Query().Get("version") {
			return c, err
		}
		select {
		case <-v.replaced:
		case <-changed:
			if err := s.hosts.still(who.record); err != nil {
				return hostapi.Config{}, err
			}
		case <-wait.C:
			return c, nil
		case <-ctx.Done():
			return c, nil // the host asks again
		}
	}
}

func configOf(v *view, entries []Entry) (hostapi.Config, error) {
	c := hostapi.Config{Bundle: v.bundle, Federated: v.federated, Entries: []hostapi.Entry{}}
	for _, e := range entries {
		c.Entries = append(c.Entries, hostapi.Entry{ID: e.ID.String(), UID: e.UID, Hint: e.Hint})
	}
	body, err := json.Marshal(c) // keys of maps are sorted
	sum := sha256.Sum256(body)
	c.Version = hex.EncodeToString(sum[:16])
	return c, err
}
