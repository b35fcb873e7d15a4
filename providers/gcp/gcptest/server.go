package gcptest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what happens to a request instead of an answer.
type Fault int

// The faults.
const (
	None Fault = iota
	// Throttled is 403 rateLimitExceeded, TooMany 429.
	Throttled
	TooMany
	// Denied is 403 forbidden, Unauthorized 401, Unavailable 503, Missing 404.
	Denied
	Unauthorized
	Unavailable
	Missing
	// Hang gives no answer until the client goes.
	Hang
	// Half breaks the answer off in the middle, Empty is "{}", Garbage a
	// proxy's page.
	Half
	Empty
	Garbage
)

// Request is what a fault is decided by.
type Request struct {
	// Method is the id of the discovery document, Project the project's id.
	Method, Project string
	// Later is set for every page but the first.
	Later bool
	// Attempt counts the requests of this method and project.
	Attempt int
}

// Server is the stand-in.
type Server struct {
	// URL needs a token of its own token endpoint; OpenURL needs none.
	URL, OpenURL string
	// Report takes what breaks the discovery documents; it is t.Errorf at first.
	Report func(error)

	documents map[string]*Document
	tokens    *tokens
	done      chan struct{}

	mu          sync.Mutex
	world       World
	page        int
	fault       func(Request) Fault
	unreachable map[string]bool
	loud        bool
	retryAfter  string
	date        string
	mutate      func(method string, answer object)
	seen        map[string]int
	checked     int
}

// New starts one that is empty and gone at the end of the test.
func New(t testing.TB) *Server {
	t.Helper()
	docs, err := Documents()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		documents: docs, done: make(chan struct{}), world: World{}, page: 500, seen: map[string]int{},
		Report: func(err error) { t.Errorf("the stand-in: %v", err) },
	}
	closed, open := httptest.NewServer(s.handler(true)), httptest.NewServer(s.handler(false))
	s.URL, s.OpenURL = closed.URL, open.URL
	s.tokens = newTokens(t, s.URL+"/token")
	t.Cleanup(func() {
		close(s.done)
		closed.Close()
		open.Close()
	})
	return s
}

// Set makes it hold exactly that, and takes Fault back.
func (s *Server) Set(w World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world, s.fault, s.page = w, nil, 500
}

// Change alters what it holds, between two requests, and takes Fault back.
func (s *Server) Change(f func(World)) {
	s.locked(func() {
		f(s.world)
		s.fault, s.page = nil, 500
	})
}

// Fault decides what happens to each request; nil is nothing.
func (s *Server) Fault(f func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// PageSize bounds every page below what is asked for.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}

// Unreachable are the scopes ("zones/z") that aggregated lists cannot reach:
// told by a warning, or, if loud, by their list of unreachable scopes.
func (s *Server) Unreachable(loud bool, scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loud, s.unreachable = loud, map[string]bool{}
	for _, name := range scopes {
		s.unreachable[name] = true
	}
}

// RetryAfter is the header of throttled answers, Date that of all.
func (s *Server) RetryAfter(seconds string) { s.locked(func() { s.retryAfter = seconds }) }

// Date is the header of all answers; "" is the clock's.
func (s *Server) Date(date string) { s.locked(func() { s.date = date }) }

// Mutate changes answers before they are checked and sent.
func (s *Server) Mutate(f func(method string, answer map[string]any)) {
	s.locked(func() { s.mutate = f })
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Seen counts the requests by their method's id; Checked counts the requests and
// answers that were found to be as published.
func (s *Server) Seen() (seen map[string]int, checked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen), s.checked
}

func (s *Server) handler(closed bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		date := s.date
		s.mu.Unlock()
		if date != "" {
			w.Header().Set("Date", date)
		}
		if r.URL.Path == "/token" {
			s.tokens.serve(w, r)
			return
		}
		if closed && !s.tokens.valid(r.Header.Get("Authorization"), time.Now()) {
			refuse(w, http.StatusUnauthorized, "authError", "Invalid Credentials")
			return
		}
		if !closed && r.URL.Path == "/batch/compute/v1" {
			s.batch(w, r)
			return
		}
		if !closed {
			r.URL.RawQuery = foreign(r.URL.Query()).Encode()
		}
		s.serve(w, r)
	})
}

// foreign takes out of a request what gcloud does and Google takes, though the
// document of this revision does not say so: booleans as Python writes them, and a
// parameter that earlier and later revisions have.
func foreign(query url.Values) url.Values {
	query.Del("returnPartialSuccess")
	for _, values := range query {
		for i, v := range values {
			if v == "True" || v == "False" {
				values[i] = strings.ToLower(v)
			}
		}
	}
	return query
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	doc := s.documents["servicedirectory"]
	if strings.HasPrefix(r.URL.Path, "/compute/") {
		doc = s.documents["compute"]
	}
	method, path := doc.Match(r.Method, r.URL.Path)
	if method == nil {
		s.Report(fmt.Errorf("%s %s is no method that is published", r.Method, r.URL.Path))
		refuse(w, http.StatusNotFound, "notFound", "no such method")
		return
	}
	if err := doc.CheckRequest(method, path, r.URL.Query(), body); err != nil {
		s.Report(fmt.Errorf("the request %s %s is not as published: %w", r.Method, r.URL, err))
	}
	project := path["project"] + path["projectsId"]
	var fault Fault
	var retryAfter string
	s.locked(func() {
		s.seen[method.ID]++
		if s.fault != nil {
			fault = s.fault(Request{method.ID, project, r.URL.Query().Get("pageToken") != "", s.seen[method.ID]})
		}
		retryAfter = s.retryAfter
	})
	if s.spoil(w, r, fault, retryAfter) {
		return
	}
	var answer object
	var ok bool
	s.locked(func() {
		answer, ok = s.answer(method.ID, project, path, r.URL.Query())
		if ok && s.mutate != nil {
			s.mutate(method.ID, answer)
		}
		s.checked++
	})
	if !ok {
		refuse(w, http.StatusNotFound, "notFound", "The resource was not found")
		return
	}
	data, err := json.Marshal(answer)
	if err == nil {
		err = doc.CheckResponse(method, data)
	}
	if err != nil {
		s.Report(fmt.Errorf("the answer to %s is not as published: %w", method.ID, err))
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if fault == Half {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		data = data[:len(data)/2]
	}
	_, _ = w.Write(data)
}

// spoil does what the fault says, and reports whether that was the answer.
func (s *Server) spoil(w http.ResponseWriter, r *http.Request, fault Fault, retryAfter string) bool {
	switch fault {
	case Throttled, TooMany:
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		if fault == TooMany {
			refuse(w, http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "Quota exceeded")
			return true
		}
		refuse(w, http.StatusForbidden, "rateLimitExceeded", "Rate Limit Exceeded")
	case Denied:
		refuse(w, http.StatusForbidden, "forbidden", "Required permission is missing")
	case Unauthorized:
		refuse(w, http.StatusUnauthorized, "authError", "Invalid Credentials")
	case Unavailable:
		refuse(w, http.StatusServiceUnavailable, "backendError", "Backend Error")
	case Missing:
		refuse(w, http.StatusNotFound, "notFound", "The resource was not found")
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case Empty:
		_, _ = io.WriteString(w, "{}")
	case Garbage:
		_, _ = io.WriteString(w, "<html>welcome to the captive portal</html>")
	default:
		return false
	}
	return true
}

// refuse writes an error as Google's APIs do.
func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{
		"code": status, "message": message,
		"errors": []object{{"domain": "global", "reason": reason, "message": message}},
	}})
}
