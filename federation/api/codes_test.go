package api_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// seenCodes are the codes of the problems that the tests of this package were
// answered.
var seenCodes sync.Map //nolint:gochecknoglobals // gathered over all tests

// elsewhere are codes that need more than this package: two clusters that are
// joined, a failure of ours.
func elsewhere() map[string]string {
	return map[string]string{
		"internal":           "a failure of the server itself",
		"store-not-readable": "records on a disk that fails, see package history",
	}
}

// everyCodeSeen reports the codes that are defined and that no test was answered.
func everyCodeSeen() (exit int) {
	defined := regexp.MustCompile(`(?m)^\s*\w+\s+(?:Code|ExplainReason)\s*= "([a-z-]+)"`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || strings.HasSuffix(f, "_test.go") {
			continue
		}
		for _, m := range defined.FindAllStringSubmatch(string(text), -1) {
			if _, seen := seenCodes.Load(m[1]); !seen && elsewhere()[m[1]] == "" {
				fmt.Fprintf(os.Stderr, "problem %s (%s) is documented, and no test was answered it\n", m[1], f)
				exit = 1
			}
		}
	}
	return exit
}

// unwell is a store that answers nothing.
type unwell struct{ api.Answers }

func (unwell) Get(context.Context, store.Key) (store.Item, error) {
	return store.Item{}, store.ErrNotWritable
}

// The problems that need something to be wrong, each with its status.
func TestRareProblems(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for reason, status := range map[api.ExplainReason]int{
		api.UnknownCluster: 404, api.UnknownGateway: 404, api.RefusedByPeer: 404, api.NoGateway: 503, api.PeerUnreachable: 503,
	} {
		s.backend.explain.Store(&api.ExplainError{Reason: reason, Cluster: "west"})
		if got := s.ask(t, "GET", "/v1/explain?service=web", ""); got.status != status || got.problem(t).Type != "urn:isthmus:problem:"+string(reason) {
			t.Errorf("%s: %d %s", reason, got.status, got.body)
		}
	}
	if got := s.ask(t, "GET", "/v1/version", "", "Host: evil.example"); got.status != 421 {
		t.Errorf("another host: %d", got.status)
	}

	sick := newStand(t, func(o *api.Options) { o.Answers = unwell{} })
	if got := sick.ask(t, "POST", "/v1/exports", exportJSON, "Idempotency-Key: k"); got.status != 503 || !strings.HasSuffix(got.problem(t).Type, string(api.CodeNotWritable)) {
		t.Errorf("keys that cannot be looked up: %d %s", got.status, got.body)
	}

	held := &slow{entered: make(chan struct{}, 4), release: make(chan struct{})}
	busy := newStand(t, func(o *api.Options) { held.Answers, o.Answers = o.Answers, held })
	busy.server.HurryDuplicates(time.Millisecond)
	first := make(chan reply, 1)
	go func() { first <- busy.ask(t, "POST", "/v1/exports", exportJSON, "Idempotency-Key: k") }()
	<-held.entered
	if got := busy.ask(t, "POST", "/v1/exports", exportJSON, "Idempotency-Key: k"); got.status != 409 || !strings.HasSuffix(got.problem(t).Type, string(api.CodeIdempotencyBusy)) {
		t.Errorf("a duplicate that waits too long: %d %s", got.status, got.body)
	}
	close(held.release)
	if got := <-first; got.status != 201 {
		t.Errorf("the first: %d", got.status)
	}
}

// A kind of which as many rules are kept as may be takes no more.
func TestFullShelf(t *testing.T) {
	t.Parallel()
	var set policy.Set
	for i := range policy.MaxRules {
		set.Exports = append(set.Exports, policy.Export{Name: fmt.Sprintf("r%05d", i), Services: []policy.ServicePattern{"*"}, To: []string{"*"}})
	}
	s := newStand(t, func(o *api.Options) {
		if err := o.Rules.(*rulebook.Book).SetConfig(t.Context(), set, nil); err != nil {
			t.Fatal(err)
		}
	})
	if got := s.ask(t, "POST", "/v1/exports", exportJSON); got.status != 409 || !strings.HasSuffix(got.problem(t).Type, string(api.CodeFull)) {
		t.Errorf("one more than may be: %d %s", got.status, got.body)
	}
}
