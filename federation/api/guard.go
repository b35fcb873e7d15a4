package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
)

// Way is how a client reached the server; it decides what is asked of it.
type Way int

// The ways.
const (
	// Socket is the Unix socket: the file's mode says who may come.
	Socket Way = iota
	// Loopback is TCP on a loopback address: every user and every browser of the
	// host can reach it, so a token is asked for and the Host checked.
	Loopback
)

// maxBody bounds a request's body.
const maxBody = 1 << 20

// Handler is everything that a request passes on its way in.
func (s *Server) Handler(way Way) http.Handler {
	var h http.Handler = s.mux
	if way == Loopback {
		h = s.guardLoopback(h)
	}
	h = canonicalPaths(h)
	return s.metrics.count(h)
}

// open paths need no token: they tell nothing of the cluster, or are scraped by
// what has none. Metrics name peers and sources; a host whose users must not see
// them turns the loopback listener off.
func open(p string) bool {
	return p == "/healthz" || p == "/readyz" || p == "/metrics" || p == "/openapi.json"
}

// guardLoopback refuses pages of other sites that a browser on this host was
// made to send here (DNS rebinding, cross-site forms), and clients without the
// token.
func (s *Server) guardLoopback(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, CodeCrossOrigin, "requests of other sites are refused")
	}))
	want := sha256.Sum256([]byte(s.opts.Token))
	return cross.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			writeProblem(w, http.StatusMisdirectedRequest, CodeForbiddenHost, "host %q is not this listener", r.Host)
			return
		}
		if !open(r.URL.Path) {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			// Hashed first: the comparison takes the same time for every length.
			got := sha256.Sum256([]byte(token))
			if s.opts.Token == "" || len(r.Header.Values("Authorization")) != 1 ||
				!strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="isthmus"`)
				writeProblem(w, http.StatusUnauthorized, CodeUnauthorized, "the token of the data directory's api.token is needed: Authorization: Bearer TOKEN")
				return
			}
		}
		next.ServeHTTP(w, r)
	}))
}

// loopbackHost reports whether a Host header names a loopback listener: a name
// that an attacker's DNS answers with 127.0.0.1 does not.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else {
		host = strings.Trim(host, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// canonicalPaths refuses what ServeMux would clean and redirect: there is one
// spelling of every path.
func canonicalPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; r.URL.RawPath != "" || (p != "/" && path.Clean(p) != p) {
			writeProblem(w, http.StatusNotFound, CodeNotFound, "paths are not cleaned here")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}
