package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	watches  prometheus.Gauge
	ended    *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_api_requests_total",
			Help: "REST requests answered, by route pattern, method and HTTP status.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "isthmus_federation_api_request_seconds",
			Help:    "Seconds from a REST request's header to the end of its answer; watches are left out.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5},
		}, []string{"route"}),
		watches: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_api_watches",
			Help: "Watch streams that are open.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_api_watches_ended_total",
			Help: "Watch streams ended by the server, by reason: slow (fell behind the history), refused (too many), credential (token or certificate has ended).",
		}, []string{"reason"}),
	}
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_federation_api_refused_total",
		Help: "Requests refused for who sent them, by way in and problem: unauthorized, forbidden, rate-limited, issuer-unavailable.",
	}, []string{"way", "reason"})
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.watches, m.ended, m.refused)
	}
	return m
}

// count measures what next answers. Labels come from the mux's patterns and the
// known methods, never from the wire.
func (m *metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		route, method := rec.pattern, r.Method
		if _, path, ok := strings.Cut(route, " "); ok {
			route = path
		}
		if route == "" || route == "/" {
			route = "other"
		}
		switch method {
		case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead:
		default:
			method = "other"
		}
		m.requests.WithLabelValues(route, method, strconv.Itoa(rec.status)).Inc()
		if !rec.stream {
			m.seconds.WithLabelValues(route).Observe(time.Since(began).Seconds())
		}
	})
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status  int
	written bool
	stream  bool
	pattern string // that the mux chose
}

// recorderOf finds the recorder below what has wrapped it.
func recorderOf(w http.ResponseWriter) *statusRecorder {
	for {
		if rec, ok := w.(*statusRecorder); ok {
			return rec
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = inner.Unwrap()
	}
}

// serveOperations is the mux; it leaves the pattern that it chose where count
// finds it.
func (s *Server) serveOperations() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mux.ServeHTTP(w, r)
		// ServeMux leaves its pattern in the request that it was given.
		if rec := recorderOf(w); rec != nil {
			rec.pattern = r.Pattern
		}
	})
}

// WriteHeader records the first status.
func (r *statusRecorder) WriteHeader(status int) {
	if !r.written {
		r.status, r.written = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implies status 200.
func (r *statusRecorder) Write(p []byte) (int, error) {
	r.written = true
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
