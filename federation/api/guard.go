package api

import (
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
)

// maxBody bounds a request's body.
const maxBody = 1 << 20

// Handler is everything that a request passes on its way in.
func (s *Server) Handler(way Way) http.Handler {
	if way == Health {
		return s.metrics.count(canonicalPaths(onlyHealth(s.mux)))
	}
	h := s.gate(way, s.serveOperations())
	switch way {
	case Loopback:
		h = guardOrigin(guardHost(h))
	case MTLS:
		h = guardOrigin(h)
	case Socket, Health:
	}
	return s.metrics.count(canonicalPaths(h))
}

// onlyHealth passes on what the health listener answers.
func onlyHealth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
		default:
			writeProblem(w, http.StatusNotFound, CodeNotFound, "this listener has /healthz, /readyz and /metrics only")
		}
	})
}

// open paths need no token: they tell nothing of the cluster, or are scraped by
// what has none. Metrics name peers and sources; a host whose users must not see
// them turns the loopback listener off.
func open(p string) bool {
	return p == "/healthz" || p == "/readyz" || p == "/metrics" || p == "/openapi.json"
}

// guardOrigin refuses pages of other sites that a browser was made to send here.
func guardOrigin(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, CodeCrossOrigin, "requests of other sites are refused")
	}))
	return cross.Handler(next)
}

// guardHost refuses names that DNS was made to answer with a loopback address
// (DNS rebinding).
func guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			writeProblem(w, http.StatusMisdirectedRequest, CodeForbiddenHost, "host %q is not this listener", r.Host)
			return
		}
		next.ServeHTTP(w, r)
	})
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
