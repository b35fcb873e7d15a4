package api

import (
	"encoding/json"
	"net/http"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(s.openAPI)
}

// serveHealth answers as long as the process serves.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady names whoever keeps the federation from being ready, and what an
// operator must look at although it is.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	reasons := s.opts.Backend.NotReady()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(resource.Readiness{Ready: len(reasons) == 0, Reasons: reasons, Degraded: s.opts.Backend.Degraded()})
}
