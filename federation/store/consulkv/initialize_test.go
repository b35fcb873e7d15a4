package consulkv_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/store/consulkv"
)

// A replica that never was there before cannot tell a new cluster from one whose
// prefix was cleared. It begins nothing: not at its first start, and not where a
// store has vanished; it starts by itself once the store is restored.
func TestAnEmptyPrefixIsNoNewStore(t *testing.T) {
	a := agent(t, consultest.Options{})
	ctx, config := t.Context(), at(a.Address(), "fresh/x")
	fresh := func() error {
		s, err := consulkv.Open(ctx, consulkv.Options{Config: config, CacheDir: t.TempDir()})
		if err == nil {
			_ = s.Close()
		}
		return err
	}
	if err := fresh(); !errors.Is(err, consulkv.ErrUninitialised) || !strings.Contains(err.Error(), "isthmus store initialize") || !strings.Contains(err.Error(), "fresh/x") {
		t.Errorf("Open below an empty prefix = %v", err)
	}
	began, err := consulkv.Initialize(ctx, config)
	if err != nil || !began {
		t.Fatalf("Initialize = %t, %v", began, err)
	}
	opts := consulkv.Options{Config: config, CacheDir: t.TempDir()}
	s := reopen(t, opts)
	if _, err := s.Put(ctx, store.Key{Kind: "intentions", Name: "a"}, []byte("1"), store.Absent); err != nil {
		t.Fatal(err)
	}
	if began, err := consulkv.Initialize(ctx, config); err != nil || began {
		t.Errorf("Initialize of a store that is there = %t, %v", began, err)
	}

	// Everything is cleared while a replica runs, and another one comes that has
	// nothing.
	saved, _, err := a.Client().KV().List("fresh/x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Client().KV().DeleteTree("fresh/x/", nil); err != nil {
		t.Fatal(err)
	}
	if err := fresh(); !errors.Is(err, consulkv.ErrUninitialised) {
		t.Errorf("Open where the prefix was cleared = %v", err)
	}
	if keys, _, err := a.Client().KV().Keys("fresh/x/", "", nil); err != nil || len(keys) != 0 {
		t.Errorf("keys %q, %v; want none: the newcomer began nothing", keys, err)
	}
	eventually(t, "the replica that ran tells", func() bool { return s.Writable() != nil })
	if items, _, err := s.List(ctx, ""); err != nil || len(items) != 1 {
		t.Errorf("the replica that ran has %v, %v; want what it knew", items, err)
	}
	for _, p := range saved { // restored
		if _, err := a.Client().KV().Put(&api.KVPair{Key: p.Key, Value: p.Value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a newcomer starts", func() bool { return fresh() == nil })
	eventually(t, "the replica that ran writes again", func() bool { return s.Writable() == nil })

	// A part of it: the mark is gone, items are there.
	if _, err := a.Client().KV().Delete("fresh/x/items/meta/store", nil); err != nil {
		t.Fatal(err)
	}
	if began, err := consulkv.Initialize(ctx, config); err == nil || began {
		t.Errorf("Initialize over items = %t, %v", began, err)
	}
}

func TestOneOfManyInitializes(t *testing.T) {
	a := agent(t, consultest.Options{Dev: true})
	var began atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := consulkv.Initialize(t.Context(), at(a.Address(), "race"))
			if err != nil {
				t.Error(err)
			}
			if ok {
				began.Add(1)
			}
		})
	}
	wg.Wait()
	if n := began.Load(); n != 1 {
		t.Errorf("%d began the store", n)
	}
}
