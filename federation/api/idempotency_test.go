package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	ahead := &atomic.Int64{}
	s := newStand(t, withRoles(&issuer{}), func(o *api.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	const key = "Idempotency-Key: 6c1f"
	first := s.ask(t, "POST", "/v1/exports", exportJSON, key)
	if first.status != 201 || first.header.Get("Idempotency-Replayed") != "" {
		t.Fatal(first)
	}
	again := s.ask(t, "POST", "/v1/exports", exportJSON, key)
	if again.status != 201 || again.body != first.body || again.header.Get("ETag") != first.header.Get("ETag") ||
		again.header.Get("Location") != first.header.Get("Location") || again.header.Get("Content-Type") != first.header.Get("Content-Type") ||
		again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same again: %+v\nfirst %+v", again, first)
	}
	// Without the key it is a new request.
	if got := s.ask(t, "POST", "/v1/exports", exportJSON); got.status != 409 {
		t.Errorf("without a key: %d", got.status)
	}
	for name, got := range map[string]reply{
		"another body":   s.ask(t, "POST", "/v1/exports", strings.Replace(exportJSON, "west", "north", 1), key),
		"another path":   s.ask(t, "POST", "/v1/imports", exportJSON, key),
		"another method": s.ask(t, "DELETE", "/v1/exports/shop", exportJSON, key),
	} {
		if p := got.problem(t); got.status != 422 || !strings.HasSuffix(p.Type, string(api.CodeIdempotencyMismatch)) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// A reason is no part of what is asked; another principal's key is another.
	if got := s.ask(t, "POST", "/v1/exports?reason=again", exportJSON, key); got.status != 201 {
		t.Errorf("with a reason: %d", got.status)
	}
	if got := s.ask(t, "POST", "/v1/exports", exportJSON, key, "Authorization: Bearer bob:ops"); got.status != 409 {
		t.Errorf("another principal gets another's answer: %d %s", got.status, got.body)
	}
	// Refusals are answers too.
	const other = "Idempotency-Key: other"
	refused := s.ask(t, "DELETE", "/v1/exports/none", "", other)
	if again := s.ask(t, "DELETE", "/v1/exports/none", "", other); refused.status != 404 || again.status != 404 || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v then %+v", refused, again)
	}
	for name, k := range map[string]string{"empty with spaces": "Idempotency-Key: a b", "too long": "Idempotency-Key: " + strings.Repeat("k", 256)} {
		if got := s.ask(t, "DELETE", "/v1/exports/none", "", k); got.status != 422 {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	// What is answered again is no change, and none is audited: 6 by now, the 2
	// replays and the 3 mismatches are not among them.
	outcomes := 0
	for _, e := range s.auditLog(t) {
		if e.Phase == "outcome" {
			outcomes++
		}
	}
	if outcomes != 4 {
		t.Errorf("%d outcomes, want create, its repetition without a key, another principal's, delete", outcomes)
	}
	ahead.Store(int64(25 * time.Hour))
	if got := s.ask(t, "POST", "/v1/exports", exportJSON, key); got.status != 409 || got.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("a day later: %d", got.status)
	}
}

// slow holds writes of the store until it is let go.
type slow struct {
	api.Answers
	entered chan struct{}
	release chan struct{}
}

func (s *slow) Put(ctx context.Context, key store.Key, value []byte, expect uint64) (store.Item, error) {
	s.entered <- struct{}{}
	<-s.release
	return s.Answers.Put(ctx, key, value, expect)
}

// Duplicates that come together are made once, and answered alike.
func TestConcurrentDuplicates(t *testing.T) {
	t.Parallel()
	held := &slow{entered: make(chan struct{}, 64), release: make(chan struct{})}
	s := newStand(t, func(o *api.Options) { held.Answers, o.Answers = o.Answers, held })
	const clients = 8
	got := make([]reply, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { got[i] = s.ask(t, "POST", "/v1/exports", exportJSON, "Idempotency-Key: one") })
	}
	<-held.entered // one has been made, and all others wait for its answer to be kept
	close(held.release)
	wg.Wait()
	replayed := 0
	for _, r := range got {
		if r.status != 201 || r.body != got[0].body {
			t.Errorf("%+v", r)
		}
		if r.header.Get("Idempotency-Replayed") == "true" {
			replayed++
		}
	}
	if replayed != clients-1 {
		t.Errorf("%d of %d were replayed", replayed, clients)
	}
}

// Keys are bounded: the oldest answers go first.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	m := &answers{items: map[string]store.Item{}}
	now := time.Unix(1_700_000_000, 0)
	i := api.NewIdempotency(m, func() time.Time { return now })
	for n := range api.MaxAnswers + 600 {
		i.Keep(t.Context(), fmt.Sprintf("k%05d", n))
	}
	if n := len(m.items); n > api.MaxAnswers+256 || n < api.MaxAnswers {
		t.Errorf("%d answers are kept, the bound is %d", n, api.MaxAnswers)
	}
	if _, ok := m.items["k00000"]; ok {
		t.Error("the oldest is still there")
	}
	now = now.Add(25 * time.Hour)
	for n := range 256 {
		i.Keep(t.Context(), fmt.Sprintf("late%05d", n))
	}
	if n := len(m.items); n > 512 {
		t.Errorf("%d answers, those of yesterday included", n)
	}
}

type answers struct {
	items    map[string]store.Item
	revision uint64
}

func (m *answers) Get(_ context.Context, k store.Key) (store.Item, error) {
	if i, ok := m.items[k.Name]; ok {
		return i, nil
	}
	return store.Item{}, store.ErrNotFound
}

func (m *answers) List(context.Context, string) (out []store.Item, _ uint64, _ error) {
	for _, i := range m.items {
		out = append(out, i)
	}
	return out, m.revision, nil
}

func (m *answers) Put(_ context.Context, k store.Key, v []byte, _ uint64) (store.Item, error) {
	m.revision++
	i := store.Item{Key: k, Value: v, Revision: m.revision}
	m.items[k.Name] = i
	return i, nil
}

func (m *answers) Delete(_ context.Context, k store.Key, _ uint64) error {
	delete(m.items, k.Name)
	return nil
}
