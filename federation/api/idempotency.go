package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotency-Replayed"
	// idempotencyKind is where answers are kept in the store, so that they outlive
	// a restart and other replicas of the cluster have them.
	idempotencyKind = "idempotency"
	// maxIdempotencyKey bounds a key; a UUID has 36 characters.
	maxIdempotencyKey = 255
	// answerLife is how long a key is remembered.
	answerLife = 24 * time.Hour
	// maxAnswers bounds what is kept; the oldest go first.
	maxAnswers = 4096
	// maxAnswer bounds one answer's body: rules have a few hundred bytes, and the
	// store takes 256 KiB in base64.
	maxAnswer = 128 << 10
	// sweepEvery is how many new answers come between two looks at the old ones.
	sweepEvery = 256
	// duplicateWait is how long a duplicate waits for the one that came first.
	duplicateWait = 10 * time.Second
)

// Answers keeps what was answered; store.Store has it.
type Answers interface {
	Get(ctx context.Context, key store.Key) (store.Item, error)
	List(ctx context.Context, kind string) ([]store.Item, uint64, error)
	Put(ctx context.Context, key store.Key, value []byte, expect uint64) (store.Item, error)
	Delete(ctx context.Context, key store.Key, expect uint64) error
}

// answer is one answer as it is kept.
type answer struct {
	At time.Time `json:"at"`
	// Request is the SHA-256 of what was asked.
	Request string            `json:"request"`
	Status  int               `json:"status"`
	Header  map[string]string `json:"header,omitempty"`
	Body    []byte            `json:"body,omitempty"`
}

// keptHeaders are part of an answer.
func keptHeaders() []string { return []string{"Content-Type", "ETag", "Location"} }

// idempotency answers a request that comes again with what the first was
// answered.
type idempotency struct {
	answers Answers
	log     *slog.Logger
	now     func() time.Time
	wait    time.Duration // of duplicates

	mu      sync.Mutex
	running map[string]chan struct{} // closed when the first is answered
	added   int
}

func newIdempotency(a Answers, log *slog.Logger, now func() time.Time) *idempotency {
	return &idempotency{answers: a, log: log, now: now, wait: duplicateWait, running: make(map[string]chan struct{}), added: sweepEvery - 1}
}

// serveOnce makes a write that has an idempotency key once, and answers it again
// from what is kept.
func (s *Server) serveOnce(w http.ResponseWriter, r *http.Request, in *write, do func(http.ResponseWriter)) {
	keys := r.Header.Values(idempotencyHeader)
	if len(keys) == 0 || s.idempotency == nil || hasSecrets(r.URL.Path) {
		do(w)
		return
	}
	if len(keys) > 1 || !validKey(keys[0]) {
		writeProblem(w, http.StatusUnprocessableEntity, CodeInvalid, "%s must be there once, with 1 to %d printable characters", idempotencyHeader, maxIdempotencyKey)
		return
	}
	name := digest(in.principal.Name, keys[0])
	request := digest(r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("If-Match"), r.Header.Get("Content-Type"), in.digest)
	release, ok := s.idempotency.begin(r.Context(), name)
	if !ok {
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusConflict, CodeIdempotencyBusy, "a request with this key is being worked on")
		return
	}
	defer release()
	have, err := s.idempotency.find(r.Context(), name)
	switch {
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, CodeNotWritable, "what was answered to this key is not known: %v", err)
		return
	case have != nil && have.Request != request:
		writeProblem(w, http.StatusUnprocessableEntity, CodeIdempotencyMismatch, "the key was used for another request; a new request needs a new key")
		return
	case have != nil:
		for name, value := range have.Header {
			w.Header().Set(name, value)
		}
		w.Header().Set(replayedHeader, "true")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(have.Status)
		_, _ = w.Write(have.Body)
		return
	}
	capture := &captured{statusRecorder: statusRecorder{ResponseWriter: w, status: http.StatusOK}}
	do(capture)
	if keep := capture.answer(request, s.now()); keep != nil {
		// The change is made: whoever asked goes away does not undo it.
		s.idempotency.keep(context.WithoutCancel(r.Context()), name, keep)
	}
}

// hasSecrets are paths whose answers are shown once and kept nowhere: the tokens
// of invitations. One that is made twice is one more to revoke, or to let expire.
func hasSecrets(path string) bool { return strings.HasPrefix(path, "/v1/peering/") }

func validKey(key string) bool {
	return key != "" && len(key) <= maxIdempotencyKey && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
}

// digest names a list of texts; none can be mistaken for two others.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		one := sha256.Sum256([]byte(p))
		h.Write(one[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// begin waits until nobody else works on the key.
func (i *idempotency) begin(ctx context.Context, name string) (release func(), ok bool) {
	limit := time.NewTimer(i.wait)
	defer limit.Stop()
	for {
		i.mu.Lock()
		other := i.running[name]
		if other == nil {
			mine := make(chan struct{})
			i.running[name] = mine
			i.mu.Unlock()
			return func() {
				i.mu.Lock()
				delete(i.running, name)
				i.mu.Unlock()
				close(mine)
			}, true
		}
		i.mu.Unlock()
		select {
		case <-other:
		case <-limit.C:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// find returns what was answered to a key, nil where nothing was.
func (i *idempotency) find(ctx context.Context, name string) (*answer, error) {
	item, err := i.answers.Get(ctx, store.Key{Kind: idempotencyKind, Name: name})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var a answer
	if json.Unmarshal(item.Value, &a) != nil || i.now().Sub(a.At) >= answerLife {
		return nil, nil // of another version, or forgotten
	}
	return &a, nil
}

// keep remembers an answer. Where it cannot, a request that comes again is made
// again: entity tags and names keep it from taking effect twice.
func (i *idempotency) keep(ctx context.Context, name string, a *answer) {
	value, err := json.Marshal(a)
	if err == nil {
		_, err = i.answers.Put(ctx, store.Key{Kind: idempotencyKind, Name: name}, value, store.Any)
	}
	if err != nil {
		i.log.Warn("answer is not kept for its idempotency key", "err", err)
		return
	}
	i.mu.Lock()
	i.added++
	due := i.added >= sweepEvery
	if due {
		i.added = 0
	}
	i.mu.Unlock()
	if due {
		i.sweep(ctx)
	}
}

// sweep forgets answers that are too old or too many.
func (i *idempotency) sweep(ctx context.Context) {
	items, _, err := i.answers.List(ctx, idempotencyKind)
	if err != nil {
		return // the store says so
	}
	// A key is written anew at most once in its life, so revisions order by age.
	slices.SortFunc(items, func(a, b store.Item) int { return cmp.Compare(a.Revision, b.Revision) })
	over := len(items) - maxAnswers
	for n, item := range items {
		var a answer
		if n >= over && json.Unmarshal(item.Value, &a) == nil && i.now().Sub(a.At) < answerLife {
			break // those after it are younger
		}
		if err := i.answers.Delete(ctx, item.Key, item.Revision); err != nil {
			return
		}
	}
}

// captured remembers an answer while it goes out.
type captured struct {
	statusRecorder
	body bytes.Buffer
	long bool
}

// Write sends and remembers.
func (c *captured) Write(p []byte) (int, error) {
	if c.body.Len()+len(p) > maxAnswer {
		c.long = true
	} else {
		c.body.Write(p)
	}
	return c.statusRecorder.Write(p)
}

// answer is what is kept of it; nil where the request may come again and be
// answered otherwise: after a failure of ours, or once its sender is let in.
func (c *captured) answer(request string, now time.Time) *answer {
	if c.long || c.status >= http.StatusInternalServerError || c.status == http.StatusTooManyRequests {
		return nil
	}
	a := &answer{At: now.UTC(), Request: request, Status: c.status, Body: c.body.Bytes(), Header: map[string]string{}}
	for _, name := range keptHeaders() {
		if v := c.Header().Get(name); v != "" {
			a.Header[name] = v
		}
	}
	return a
}
