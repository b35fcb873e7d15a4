package rulebook_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bolt(t *testing.T, path string) *store.Bolt {
	t.Helper()
	s, err := store.OpenBolt(store.BoltOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func book(t *testing.T, s store.Store, config policy.Set, changed func()) *rulebook.Book {
	t.Helper()
	b, err := rulebook.New(t.Context(), rulebook.Options{Store: s, Config: config, Changed: changed})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func intention(name string, action policy.Action) resource.Intention {
	return resource.Intention{Intention: policy.Intention{
		Name: name, Services: []policy.ServicePattern{"web.default"}, Callers: []policy.IDPattern{"spiffe://td/a"}, Action: action,
	}}
}

func names(s policy.Set) string {
	var out []string
	for _, i := range s.Intentions {
		out = append(out, i.Name)
	}
	return strings.Join(out, " ")
}

func TestAWriteHoldsForEveryReadAfterIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := bolt(t, path)
	var changes atomic.Int32
	b := book(t, s, policy.Set{}, func() { changes.Add(1) })
	ctx, shelf := t.Context(), b.Intentions()

	made, err := shelf.Create(ctx, intention("a", policy.Allow), false)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := shelf.Feed().Get("a"); !ok || got.ETag != made.ETag || got.Origin != resource.FromAPI {
		t.Fatalf("after Create the feed has %+v, %v; want etag %s", got, ok, made.ETag)
	}
	if names(b.Set()) != "a" || changes.Load() != 1 {
		t.Fatalf("after Create the set has %q, %d changes were told", names(b.Set()), changes.Load())
	}
	pre, err := rulebook.ParseIfMatch(made.ETag)
	if err != nil {
		t.Fatal(err)
	}
	denied, err := shelf.Replace(ctx, "a", intention("", policy.Deny), pre, false)
	if err != nil || denied.Name != "a" || denied.ETag == made.ETag {
		t.Fatalf("Replace = %+v, %v", denied, err)
	}
	if _, err := shelf.Replace(ctx, "a", intention("a", policy.Allow), pre, false); !errors.Is(err, rulebook.ErrChanged) {
		t.Fatalf("Replace with the old tag = %v, want ErrChanged", err)
	}
	if err := shelf.Delete(ctx, "a", pre, false); !errors.Is(err, rulebook.ErrChanged) {
		t.Fatalf("Delete with the old tag = %v, want ErrChanged", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	b = book(t, bolt(t, path), policy.Set{}, nil)
	if got, _ := b.Intentions().Feed().Get("a"); got.Action != policy.Deny || got.ETag != denied.ETag {
		t.Fatalf("after a restart there is %+v, want what Replace answered: %+v", got, denied)
	}
	if err := b.Intentions().Delete(ctx, "a", rulebook.Precondition{}, false); err != nil {
		t.Fatal(err)
	}
	if names(b.Set()) != "" {
		t.Fatalf("after Delete the set has %q", names(b.Set()))
	}
}

func TestTheConfigFilesRulesAreTheFiles(t *testing.T) {
	s := bolt(t, filepath.Join(t.TempDir(), "store.db"))
	ctx, config := t.Context(), policy.Set{Intentions: []policy.Intention{intention("a", policy.Deny).Intention}}
	b := book(t, s, policy.Set{}, nil)
	if _, err := b.Intentions().Create(ctx, intention("a", policy.Allow), false); err != nil {
		t.Fatal(err)
	}
	if err := b.SetConfig(ctx, config, nil); err != nil {
		t.Fatal(err)
	}
	got, _ := b.Intentions().Feed().Get("a")
	if got.Origin != resource.FromConfig || got.Action != policy.Deny || b.Set().Intentions[0].Action != policy.Deny {
		t.Fatalf("the stored rule was not shadowed: %+v", got)
	}
	_, create := b.Intentions().Create(ctx, intention("a", policy.Allow), false)
	_, replace := b.Intentions().Replace(ctx, "a", intention("a", policy.Allow), rulebook.Precondition{}, false)
	remove := b.Intentions().Delete(ctx, "a", rulebook.Precondition{}, false)
	for what, err := range map[string]error{"Create": create, "Replace": replace, "Delete": remove} {
		if !errors.Is(err, rulebook.ErrConfigOwned) {
			t.Errorf("%s = %v, want ErrConfigOwned", what, err)
		}
	}
	if err := b.SetConfig(ctx, policy.Set{}, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.Intentions().Feed().Get("a"); got.Origin != resource.FromAPI || got.Action != policy.Allow {
		t.Fatalf("the stored rule did not come back: %+v", got)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	s := bolt(t, filepath.Join(t.TempDir(), "store.db"))
	b := book(t, s, policy.Set{}, nil)
	ctx, shelf := t.Context(), b.Intentions()
	if got, err := shelf.Create(ctx, intention("a", policy.Allow), true); err != nil || got.Name != "a" {
		t.Fatalf("Create = %+v, %v", got, err)
	}
	if _, err := shelf.Create(ctx, resource.Intention{}, true); err == nil {
		t.Error("a dry run accepted an empty rule")
	}
	if err := shelf.Delete(ctx, "a", rulebook.Precondition{}, true); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete = %v, want ErrNotFound", err)
	}
	if items, _, _ := s.List(ctx, ""); len(items) != 0 {
		t.Fatalf("a dry run stored %v", items)
	}
}

// Of many who replace the same version one wins, the others are told.
func TestOneReplacementOfAVersion(t *testing.T) {
	b := book(t, bolt(t, filepath.Join(t.TempDir(), "store.db")), policy.Set{}, nil)
	made, err := b.Intentions().Create(t.Context(), intention("a", policy.Allow), false)
	if err != nil {
		t.Fatal(err)
	}
	pre, err := rulebook.ParseIfMatch(made.ETag)
	if err != nil {
		t.Fatal(err)
	}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := b.Intentions().Replace(t.Context(), "a", intention("a", policy.Deny), pre, false)
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, rulebook.ErrChanged):
				lost.Add(1)
			default:
				t.Errorf("Replace: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Fatalf("%d won, %d lost; want 1 and 7", won.Load(), lost.Load())
	}
}

// What a newer version wrote, or a hand, is never half understood to somebody's
// advantage: an allow is dropped, a deny is kept without its conditions.
func TestRulesThatAreNotUnderstood(t *testing.T) {
	s := bolt(t, filepath.Join(t.TempDir(), "store.db"))
	for name, value := range map[string]string{
		"deny":  `{"name":"deny","services":["web.default"],"callers":["spiffe://td/a"],"action":"deny","methods":["GET"]}`,
		"allow": `{"name":"allow","services":["web.default"],"callers":["spiffe://td/a"],"action":"allow","methods":["GET"]}`,
		"other": `{"name":"elsewhere","services":["web.default"],"callers":["spiffe://td/a"],"action":"allow"}`,
		"noise": `{`,
		"empty": `{"name":"empty","services":[],"callers":[],"action":"allow"}`,
	} {
		if _, err := s.Put(t.Context(), store.Key{Kind: rulebook.Intentions, Name: name}, []byte(value), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(book(t, s, policy.Set{}, nil).Set()); got != "deny" {
		t.Fatalf("the set has %q, want the deny alone", got)
	}
}

// Another writer of a shared store is seen.
func TestRunFollowsTheStore(t *testing.T) {
	s := bolt(t, filepath.Join(t.TempDir(), "store.db"))
	changed := make(chan struct{}, 1)
	mine := book(t, s, policy.Set{}, func() { changed <- struct{}{} })
	done := make(chan error, 1)
	go func() { done <- mine.Run(t.Context()) }()
	other := book(t, s, policy.Set{}, nil)
	if _, err := other.Intentions().Create(t.Context(), intention("a", policy.Allow), false); err != nil {
		t.Fatal(err)
	}
	<-changed
	if names(mine.Set()) != "a" {
		t.Fatalf("the set has %q", names(mine.Set()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestValidationNamesFieldValueAndRule(t *testing.T) {
	b := book(t, bolt(t, filepath.Join(t.TempDir(), "store.db")), policy.Set{}, nil)
	bad := intention("a", "permit")
	bad.Callers = []policy.IDPattern{"nobody"}
	_, err := b.Intentions().Create(t.Context(), bad, false)
	var fe *catalog.FieldError
	if !errors.As(err, &fe) || fe.Field != "callers[0]" || fe.Value != "nobody" || !strings.Contains(err.Error(), "action") {
		t.Fatalf("Create = %v", err)
	}
	_, err = b.Intentions().Replace(t.Context(), "a", intention("b", policy.Allow), rulebook.Precondition{}, false)
	if !errors.As(err, &fe) || fe.Field != "name" {
		t.Fatalf("Replace under another name = %v", err)
	}
}

func TestParseIfMatch(t *testing.T) {
	for header, want := range map[string]struct{ set, seven, eight, bad bool }{
		"":                                 {seven: true, eight: true},
		"*":                                {set: true, seven: true, eight: true},
		`"7"`:                              {set: true, seven: true},
		` "7" , "8"`:                       {set: true, seven: true, eight: true},
		`W/"7"`:                            {set: true},
		`"9"`:                              {set: true},
		`7`:                                {bad: true},
		`"7`:                               {bad: true},
		`"`:                                {bad: true},
		`"7" "8"`:                          {bad: true},
		`"7",`:                             {bad: true},
		`*, "7"`:                           {bad: true},
		strings.Repeat(`"1",`, 16) + `"1"`: {bad: true},
	} {
		p, err := rulebook.ParseIfMatch(header)
		if (err != nil) != want.bad {
			t.Errorf("ParseIfMatch(%q) = %v", header, err)
		}
		if err == nil && (p.IsSet() != want.set || p.Match(`"7"`) != want.seven || p.Match(`"8"`) != want.eight) {
			t.Errorf("ParseIfMatch(%q): set %v, matches 7 %v, 8 %v; want %+v", header, p.IsSet(), p.Match(`"7"`), p.Match(`"8"`), want)
		}
	}
}

func FuzzParseIfMatch(f *testing.F) {
	for _, s := range []string{"", "*", `"7"`, `W/"7", "8"`, `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := rulebook.ParseIfMatch(header)
		if err == nil && p.IsSet() && header != "" && p.Match(`"`+header+`x"`) && strings.TrimSpace(header) != "*" {
			t.Errorf("ParseIfMatch(%q) matches a tag that it does not hold", header)
		}
	})
}
