package consulkv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/store/consulkv"
	"github.com/isthmus-mesh/isthmus/federation/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 30 * time.Second

func agent(t *testing.T, o consultest.Options) *consultest.Agent {
	t.Helper()
	o.Binary = tools.Require(t, "consul")
	return consultest.Start(t, o)
}

// open returns a store that follows Consul until the end of the test.
func open(t *testing.T, opts consulkv.Options) *consulkv.Store {
	t.Helper()
	initialize(t, opts.Config)
	return reopen(t, opts)
}

// initialize is the operator's word that the store is new.
func initialize(t *testing.T, c consulkv.Config) {
	t.Helper()
	if _, err := consulkv.Initialize(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// reopen opens a store that is there.
func reopen(t *testing.T, opts consulkv.Options) *consulkv.Store {
	t.Helper()
	s, err := consulkv.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func at(address, prefix string) consulkv.Config {
	return consulkv.Config{Address: strictyaml.OneOrMore{address}, Prefix: prefix}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestContractOnRealConsul(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	storetest.Store(t, func(t *testing.T) store.Store {
		return open(t, consulkv.Options{Config: at(a.Address(), "t/"+strings.ReplaceAll(t.Name(), "/", "-"))})
	})
}

// Three processes write to one store, each with the history: one chain, no gap,
// and every one shows the same in the end.
func TestReplicasShareOneStoreAndOneHistory(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	const processes, writes = 3, 40
	var logs []*history.Log
	for range processes {
		s := open(t, consulkv.Options{Config: at(a.Address(), "shared")})
		l, err := history.New(t.Context(), history.Options{Store: s, Kinds: []string{"exports"}, MaxRecords: 60})
		if err != nil {
			t.Fatal(err)
		}
		run(t, l.Run)
		logs = append(logs, l)
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for p, l := range logs {
		wg.Go(func() {
			for i := range writes {
				key := store.Key{Kind: "exports", Name: fmt.Sprint("r", i%5)}
				if _, err := l.Put(t.Context(), key, fmt.Appendf(nil, "%d/%d", p, i), store.Any); err != nil {
					t.Errorf("process %d: %v", p, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("figure: %d writes with history by %d processes in %.1f s", processes*writes, processes, time.Since(begin).Seconds())
	eventually(t, "all see the same", func() bool {
		var seen []string
		for _, l := range logs {
			items, _, err := l.List(t.Context(), "exports")
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, fmt.Sprint(items))
		}
		return len(slices.Compact(seen)) == 1
	})
	for _, l := range logs {
		v, err := l.Verify(t.Context())
		if err != nil || !v.OK || v.Last < processes*writes {
			t.Errorf("Verify = %+v, %v", v, err)
		}
	}
	items, _, err := logs[0].List(t.Context(), "exports")
	if err != nil {
		t.Fatal(err)
	}
	v, err := logs[1].Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state, err := logs[1].At(t.Context(), fmt.Sprint(v.Last))
	if err != nil || fmt.Sprint(state.Items("exports")) != fmt.Sprint(items) {
		t.Errorf("as of now %v, %v; is %v", state.Items("exports"), err, items)
	}
	if v.Checkpoint == 0 {
		t.Error("120 records beyond a bound of 60 were not compacted")
	}
}

// After a Refresh reads show what another process wrote before, without waiting for
// Consul to tell of it.
func TestRefresh(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	writer, reader := open(t, consulkv.Options{Config: at(a.Address(), "refresh")}), open(t, consulkv.Options{Config: at(a.Address(), "refresh")})
	key := store.Key{Kind: "exports", Name: "a"}
	for i := range 20 {
		want := fmt.Sprint(i)
		if _, err := writer.Put(t.Context(), key, []byte(want), store.Any); err != nil {
			t.Fatal(err)
		}
		if err := reader.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := reader.Get(t.Context(), key); err != nil || string(got.Value) != want {
			t.Fatalf("Get after Refresh = %+v, %v; want %s", got, err, want)
		}
	}
	a.Kill()
	if err := reader.Refresh(t.Context()); err == nil {
		t.Error("Refresh succeeded without Consul")
	}
	_ = reader.Close()
	if err := reader.Refresh(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Refresh of a closed store = %v", err)
	}
}

// What another process writes is told by Changes, also after Consul was away;
// reads go on meanwhile, writes are refused, and a process that starts then serves
// its last good copy.
func TestOutage(t *testing.T) {
	a := agent(t, consultest.Options{})
	cache := filepath.Join(t.TempDir(), "cache")
	s := open(t, consulkv.Options{Config: at(a.Address(), "outage"), CacheDir: cache})
	key := store.Key{Kind: "exports", Name: "a"}
	item, err := s.Put(t.Context(), key, []byte("1"), store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	// The copy is written at the next start at the latest.
	again := open(t, consulkv.Options{Config: at(a.Address(), "outage"), CacheDir: cache})
	_ = again.Close()
	a.Kill()
	eventually(t, "the store says that it takes no writes", func() bool { return errors.Is(s.Writable(), store.ErrNotWritable) })
	if got, err := s.Get(t.Context(), key); err != nil || string(got.Value) != "1" {
		t.Errorf("Get during the outage = %+v, %v", got, err)
	}
	if _, err := s.Put(t.Context(), key, []byte("2"), item.Revision); !errors.Is(err, store.ErrNotWritable) {
		t.Errorf("Put during the outage = %v, want ErrNotWritable", err)
	}
	late := reopen(t, consulkv.Options{Config: at(a.Address(), "outage"), CacheDir: cache})
	if got, err := late.Get(t.Context(), key); err != nil || string(got.Value) != "1" || len(late.Notices()) != 1 {
		t.Errorf("a start during the outage: %+v, %v, notices %q", got, err, late.Notices())
	}
	if _, err := consulkv.Open(t.Context(), consulkv.Options{Config: at(a.Address(), "outage"), CacheDir: t.TempDir()}); err == nil {
		t.Error("a start without any copy succeeded")
	}
	a.Restart()
	_, since, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, consulkv.Options{Config: at(a.Address(), "outage")})
	if _, err := other.Put(t.Context(), key, []byte("3"), item.Revision); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	changes, _, err := s.Changes(ctx, since)
	if err != nil || len(changes) != 1 || string(changes[0].Item.Value) != "3" {
		t.Errorf("Changes after the outage = %+v, %v", changes, err)
	}
	eventually(t, "all write again", func() bool { return s.Writable() == nil && late.Writable() == nil && len(late.Notices()) == 0 })
	eventually(t, "the one that started late follows", func() bool {
		got, err := late.Get(t.Context(), key)
		return err == nil && string(got.Value) == "3"
	})
}

// A backup of Consul that is restored: older items with older revisions, told as
// changes, and an ETag of what was lost fits nothing.
func TestRestoredBackup(t *testing.T) {
	a := agent(t, consultest.Options{})
	c := at(a.Address(), "backup")
	c.Wait = time.Second
	s := open(t, consulkv.Options{Config: c})
	key := store.Key{Kind: "exports", Name: "a"}
	old, err := s.Put(t.Context(), key, []byte("old"), store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _, err := a.Client().Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := io.ReadAll(snapshot)
	_ = snapshot.Close()
	if err != nil {
		t.Fatal(err)
	}
	lost, err := s.Put(t.Context(), key, []byte("lost"), old.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), store.Key{Kind: "exports", Name: "b"}, []byte("lost"), store.Absent); err != nil {
		t.Fatal(err)
	}
	_, since, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Client().Snapshot().Restore(nil, strings.NewReader(string(saved))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was restored shows", func() bool {
		items, revision, err := s.List(t.Context(), "")
		return err == nil && len(items) == 1 && string(items[0].Value) == "old" && items[0].Revision == old.Revision && revision > since
	})
	changes, _, err := s.Changes(t.Context(), since)
	if err != nil || len(changes) == 0 {
		t.Errorf("Changes = %+v, %v", changes, err)
	}
	var conflict *store.ConflictError
	if _, err := s.Put(t.Context(), key, []byte("x"), lost.Revision); !errors.As(err, &conflict) {
		t.Errorf("Put by the lost revision = %v, want a conflict", err)
	}
	next, err := s.Put(t.Context(), key, []byte("next"), old.Revision)
	if err != nil || next.Revision <= lost.Revision {
		t.Errorf("after the restoration a write has revision %d, %v; %d was given out before", next.Revision, err, lost.Revision)
	}
}

// A list that is not whole replaces nothing: a token that lost its permission
// gets an empty one with status 200 or 404.
func TestAnEmptyListIsNotBelieved(t *testing.T) {
	const management = "6f1ed002-ab5a-46bf-ab5d-9a0a3ee44c43"
	a := agent(t, consultest.Options{ManagementToken: management})
	rules := `key_prefix "acl/" { policy = "write" } session_prefix "" { policy = "write" }`
	p, _, err := a.Client().ACL().PolicyCreate(&api.ACLPolicy{Name: "store", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := a.Client().ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: p.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := at(a.Address(), "acl/x")
	c.TokenFile, c.Wait = file, time.Second
	s := open(t, consulkv.Options{Config: c})
	if _, err := s.Put(t.Context(), store.Key{Kind: "exports", Name: "a"}, []byte("1"), store.Absent); err != nil {
		t.Fatal(err)
	}
	p.Rules = `key_prefix "other/" { policy = "write" }`
	if _, _, err := a.Client().ACL().PolicyUpdate(p, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store says that something is wrong", func() bool { return s.Writable() != nil })
	if items, _, err := s.List(t.Context(), ""); err != nil || len(items) != 1 {
		t.Fatalf("List without the permission = %v, %v; the last good is gone", items, err)
	}
	// Another token in the file is used without a restart.
	if err := os.WriteFile(file, []byte(management), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store writes with the new token", func() bool {
		_, err := s.Put(t.Context(), store.Key{Kind: "exports", Name: "b"}, []byte("1"), store.Any)
		return err == nil
	})
}

// TestAClearedPrefixIsNotBelieved: a process that starts with a copy of before, where
// Consul has nothing any more, serves the copy and does not make the store anew. The
// copy is what others' view hangs on: the mark alone would empty theirs, too.
func TestAClearedPrefixIsNotBelieved(t *testing.T) {
	a := agent(t, consultest.Options{})
	opts := consulkv.Options{Config: at(a.Address(), "cleared/x"), CacheDir: t.TempDir()}
	ctx := t.Context()
	initialize(t, opts.Config)
	first, err := consulkv.Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Put(ctx, store.Key{Kind: "exports", Name: "a"}, []byte("1"), store.Absent); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	saved, _, err := a.Client().KV().List("cleared/x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Client().KV().DeleteTree("cleared/x/", nil); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, opts)
	if items, _, err := s.List(ctx, ""); err != nil || len(items) != 1 {
		t.Fatalf("List = %v, %v; want the item of before", items, err)
	}
	if err := s.Writable(); err == nil {
		t.Error("the store is writable below a prefix that was cleared")
	}
	if keys, _, err := a.Client().KV().Keys("cleared/x/", "", nil); err != nil || len(keys) != 0 {
		t.Fatalf("keys %q, %v; want none: nobody made the store anew", keys, err)
	}
	for _, p := range saved { // restored
		if _, err := a.Client().KV().Put(&api.KVPair{Key: p.Key, Value: p.Value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the store writes again", func() bool { return s.Writable() == nil })
}

// proxy stands before Consul and loses the answers of transactions, which Consul
// has made.
func TestALostAnswerIsFoundAgain(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	target, err := url.Parse("http://" + a.Address())
	if err != nil {
		t.Fatal(err)
	}
	var lose atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.URL.Path == "/v1/txn" && lose.Load() {
			return errors.New("lost")
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	s := open(t, consulkv.Options{Config: at(srv.Listener.Addr().String(), "lost")})
	lose.Store(true)
	key := store.Key{Kind: "exports", Name: "a"}
	first, err := s.Put(t.Context(), key, []byte("1"), store.Absent)
	if err != nil {
		t.Fatalf("Put whose answer was lost: %v", err)
	}
	second, err := s.Put(t.Context(), key, []byte("1"), first.Revision)
	if err != nil || second.Revision <= first.Revision {
		t.Fatalf("the same value again: %+v, %v; it was at %d", second, err, first.Revision)
	}
	if err := s.Delete(t.Context(), key, second.Revision); err != nil {
		t.Fatalf("Delete whose answer was lost: %v", err)
	}
}

// One replica at a time holds the lease; when it goes another takes it, and what
// the first still tries to write is refused by Consul.
func TestTheLeaseMovesAndFences(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	var stops []func()
	var all []*consulkv.Replicas
	var stores []*consulkv.Store
	for i := range 3 {
		s := open(t, consulkv.Options{Config: at(a.Address(), "lease")})
		r := s.Replicas(consulkv.ReplicasOptions{Self: consulkv.Member{Name: fmt.Sprint("r", i), Address: fmt.Sprintf("127.0.0.1:%d", 7000+i)}})
		stops = append(stops, run(t, r.Run))
		all, stores = append(all, r), append(stores, s)
	}
	holder := func(of ...*consulkv.Replicas) int {
		found := -1
		for i, r := range all {
			if slices.Contains(of, r) && r.View().Held {
				if found >= 0 {
					t.Fatalf("replicas %d and %d hold the lease", found, i)
				}
				found = i
			}
		}
		return found
	}
	eventually(t, "one holds it and all know whom", func() bool {
		h := holder(all...)
		for _, r := range all {
			if v := r.View(); h < 0 || v.Exporter.Name != fmt.Sprint("r", h) || len(v.Members) != 3 {
				return false
			}
		}
		return true
	})
	first := holder(all...)
	write := store.Write{Key: store.Key{Kind: "state", Name: "epoch"}, Value: []byte("1"), Expect: store.Any}
	if _, err := all[first].Apply(t.Context(), write); err != nil {
		t.Errorf("the holder's write: %v", err)
	}
	for i, r := range all {
		if _, err := r.Apply(t.Context(), write); i != first && !errors.Is(err, consulkv.ErrNotHeld) {
			t.Errorf("replica %d writes as the exporter: %v", i, err)
		}
	}
	fence := all[first].View().Fence
	// It goes in order: the next one takes over at once.
	stops[first]()
	rest := slices.DeleteFunc(slices.Clone(all), func(r *consulkv.Replicas) bool { return r == all[first] })
	begin := time.Now()
	eventually(t, "another takes over", func() bool { return holder(rest...) >= 0 })
	t.Logf("figure: lease moved %.0f ms after its holder left", time.Since(begin).Seconds()*1000)
	second := holder(rest...)
	if v := all[second].View(); v.Fence <= fence || len(v.Members) > 2 {
		t.Errorf("after the move: %+v, the fence was %d", v, fence)
	}
	// Its session is ended behind its back: it cannot write, whatever it believes.
	sessions, _, err := a.Client().Session().List(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		if s.Name == fmt.Sprint("isthmus r", second) {
			if _, err := a.Client().Session().Destroy(s.ID, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := all[second].Apply(t.Context(), write); !errors.Is(err, consulkv.ErrNotHeld) {
		t.Errorf("a holder whose session has ended writes: %v", err)
	}
	eventually(t, "somebody holds it again", func() bool { return holder(rest...) >= 0 && len(all[second].View().Members) == 2 })
	_ = stores
}

func TestConfigIsJudged(t *testing.T) {
	for name, c := range map[string]consulkv.Config{
		"address":         {Address: strictyaml.OneOrMore{"nowhere"}},
		"scheme":          {Scheme: "ftp"},
		"prefix":          {Prefix: "a b"},
		"tls":             {TLS: consulkv.TLS{CAFile: "x"}},
		"session_ttl":     {SessionTTL: time.Millisecond},
		"wait":            {Wait: time.Hour},
		"request_timeout": {RequestTimeout: time.Hour},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (consulkv.Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

// A second address serves where the first does not answer.
func TestTheNextAgentServes(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	_ = dead.Close()
	initialize(t, at(a.Address(), "next"))
	c := at(address, "next")
	c.Address = append(c.Address, a.Address())
	var s *consulkv.Store
	eventually(t, "the second agent is found", func() bool {
		s, err = consulkv.Open(t.Context(), consulkv.Options{Config: c})
		return err == nil
	})
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Put(t.Context(), store.Key{Kind: "k", Name: "n"}, []byte("1"), store.Absent); err != nil {
		t.Error(err)
	}
}
