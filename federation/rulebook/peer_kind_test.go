package rulebook_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

func peer(name string, asserts ...policy.IDPattern) resource.PeerRule {
	return resource.PeerRule{Peer: policy.Peer{
		Name: catalog.ClusterName(name), ID: "spiffe://" + name + ".test/isthmus/cluster/" + name, Asserts: asserts,
	}}
}

// Two who write peers that exclude each other at once: one of them is refused,
// also where each of them has its own process.
func TestPeersThatExcludeEachOther(t *testing.T) {
	s := bolt(t, filepath.Join(t.TempDir(), "store.db"))
	b := book(t, s, policy.Set{}, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := b.PeerRules().Create(t.Context(), peer(fmt.Sprintf("p-%d", i), "spiffe://shop.test/*"), false)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if _, field := errors.AsType[*catalog.FieldError](err); !field {
				t.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	if made != 1 || len(b.Peers()) != 1 {
		t.Fatalf("%d of 8 were made, the book holds %d; want 1", made, len(b.Peers()))
	}
	first := b.Peers()[0].Name

	// Another process has written without having read what the first wrote.
	item := `{"name":"a-first-by-name","id":"spiffe://a.test/c","asserts":["spiffe://shop.test/web"]}`
	key := store.Key{Kind: rulebook.Peers, Name: "a-first-by-name"}
	if _, err := s.Put(t.Context(), key, []byte(item), store.Absent); err != nil {
		t.Fatal(err)
	}
	again := book(t, s, policy.Set{}, nil)
	if len(again.Peers()) != 1 || again.Peers()[0].Name != first {
		t.Fatalf("the book holds %v, want the one that was written first: %s", again.Peers(), first)
	}
}

// The order of precedence is the file's, then the names'.
func TestOrderOfPeers(t *testing.T) {
	told := 0
	b, err := rulebook.New(t.Context(), rulebook.Options{
		Store:       bolt(t, filepath.Join(t.TempDir(), "store.db")),
		ConfigPeers: []policy.Peer{peer("z").Peer, peer("b").Peer}, PeersChanged: func() { told++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"y", "a"} {
		if _, err := b.PeerRules().Create(t.Context(), peer(name), false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.PeerRules().Create(t.Context(), peer("c"), true); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, p := range b.Peers() {
		got += string(p.Name)
	}
	if got != "zbay" || told != 2 {
		t.Errorf("order %q, told %d times; want zbay, 2", got, told)
	}
	if _, err := b.PeerRules().Create(t.Context(), peer("z"), false); !errors.Is(err, rulebook.ErrConfigOwned) {
		t.Errorf("Create under a configured name: %v", err)
	}
}
