package consulkv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/prometheus/client_golang/prometheus"
)

// Options configure a Store.
type Options struct {
	Config Config
	// CacheDir keeps the last good copy of the items, for a start while Consul is
	// out of reach; "" keeps none.
	CacheDir string
	// Log receives the store's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Store is a store.Store in Consul's key-value store. Run keeps it in line with
// what others write.
type Store struct {
	config  Config
	client  *client
	log     *slog.Logger
	metrics *metrics
	mem     *store.Memory
	cache   *store.LastGood
	life    context.Context //nolint:containedctx // ends with Close, whoever calls
	end     context.CancelFunc

	mu      sync.Mutex
	reads   uint64                // counts readings of the whole, as they start
	applied uint64                // the latest of them that is shown
	shownAt uint64                // its index
	wrote   map[store.Key]written // own writes that a reading may not have seen
	readErr error                 // why the last reading failed
	failed  error                 // why the last write failed
	damage  error                 // of the copies on disk, at the start
	stale   bool                  // served from the cache: Consul was never read

	saving sync.Mutex
	kept   bool   // there is a copy
	keptAt uint64 // its revision
}

// written is one own write: the last reading that had begun before it, and its index
// in Consul.
type written struct{ reading, revision uint64 }

// unseenBy reports whether a reading may not have seen the write: it had begun before,
// and what it found is of a lower index. Keeping our own of what it has seen would
// put it beside what others have written since: a head of before beside records of
// which a later one says that they are gone.
func (w written) unseenBy(reading, at uint64) bool { return w.reading >= reading && w.revision > at }

// copyPoint is the write point of the copy.
const copyPoint durable.Point = "consul-copy"

// marker is the key that every whole list holds.
func marker() store.Key { return store.Key{Kind: "meta", Name: "store"} }

// Open reads the store, or where Consul is out of reach the last good copy: only
// without either it fails.
func Open(ctx context.Context, opts Options) (*Store, error) {
	c := opts.Config.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("store: consul: %w", err)
	}
	s := &Store{config: c, log: opts.Log, wrote: make(map[store.Key]written)}
	s.life, s.end = context.WithCancel(context.Background())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.client, err = newClient(c); err != nil {
		return nil, fmt.Errorf("store: consul: %w", err)
	}
	if s.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, fmt.Errorf("store: consul: %w", err)
	}
	if opts.CacheDir != "" {
		if s.cache, err = store.NewLastGood(copyPoint, opts.CacheDir, "items"); err != nil {
			return nil, err
		}
	}
	items, at, err := s.first(ctx)
	if err != nil {
		cached, cacheErr := s.load()
		if errors.Is(err, ErrUninitialised) {
			return nil, fmt.Errorf("store: %w", err)
		}
		if cacheErr != nil {
			return nil, fmt.Errorf("store: %w", errors.Join(err, cacheErr))
		}
		s.log.Error("store is out of reach, the last good copy serves", "err", err, "count", len(cached))
		items, s.readErr, s.stale = cached, err, true
	}
	s.mem = store.NewMemory(items, max(at, highest(items)))
	s.save()
	return s, nil
}

// first reads everything. A store without its mark is not begun here, whatever
// else speaks for it: one of which this process holds a copy was cleared, and one of
// which it holds none may have been, by the same accident that took the copies.
// Were it marked, every replica and every gateway would believe that there is no
// policy any more. See Initialize.
func (s *Store) first(ctx context.Context) (map[store.Key]store.Item, uint64, error) {
	items, at, marked, err := s.whole(ctx, 0)
	if err != nil || marked {
		return items, at, err
	}
	if len(items) > 0 {
		return nil, 0, errNotWhole
	}
	if held, err := s.load(); err == nil && len(held) > 0 {
		return nil, 0, fmt.Errorf("%w: below %s/ is nothing, and %d items are known from before", errNotWhole, s.config.Prefix, len(held))
	}
	return nil, 0, fmt.Errorf("%w: below %s/ in Consul is nothing", ErrUninitialised, s.config.Prefix)
}

var errNotWhole = errors.New("the list of items lacks the store's own mark, so it is not the whole: a token without a permission, or a prefix that somebody has cleared")

// whole reads every item; 0 does not block.
func (s *Store) whole(ctx context.Context, index uint64) (items map[store.Key]store.Item, at uint64, marked bool, err error) {
	pairs, at, err := s.client.read(ctx, s.config.Prefix+"/items/", true, index, index == 0)
	if err != nil {
		return nil, 0, false, err
	}
	items = make(map[store.Key]store.Item, len(pairs))
	for _, p := range pairs {
		key, ok := s.key(p.Key)
		if !ok {
			continue // somebody else's
		}
		if key == marker() {
			marked = true
			continue
		}
		items[key] = store.Item{Key: key, Value: p.Value, Revision: p.ModifyIndex}
	}
	if len(items) > store.MaxItems {
		return nil, 0, false, fmt.Errorf("consul: %d items: %w", len(items), store.ErrTooLarge)
	}
	return items, at, marked, nil
}

// path is where an item is kept.
func (s *Store) path(k store.Key) string {
	part := "/items/"
	if k.Archived() {
		part = "/archive/"
	}
	return s.config.Prefix + part + k.Kind + "/" + k.Name
}

func (s *Store) key(path string) (store.Key, bool) {
	rest, ok := strings.CutPrefix(path, s.config.Prefix+"/")
	if !ok {
		return store.Key{}, false
	}
	if rest, ok = strings.CutPrefix(rest, "items/"); !ok {
		if rest, ok = strings.CutPrefix(rest, "archive/"); !ok {
			return store.Key{}, false
		}
	}
	kind, name, ok := strings.Cut(rest, "/")
	k := store.Key{Kind: kind, Name: name}
	return k, ok && store.CheckWrites([]store.Write{{Key: k}}) == nil
}

func highest(items map[store.Key]store.Item) (top uint64) {
	for _, i := range items {
		top = max(top, i.Revision)
	}
	return top
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if !key.Archived() {
		return s.mem.Get(key)
	}
	if s.isClosed() {
		return store.Item{}, store.ErrClosed
	}
	p, err := s.one(ctx, key)
	if err != nil {
		return store.Item{}, err
	}
	return store.Item{Key: key, Value: p.Value, Revision: p.ModifyIndex}, nil
}

// one reads a key from Consul.
func (s *Store) one(ctx context.Context, key store.Key) (pair, error) {
	pairs, _, err := s.client.read(ctx, s.path(key), false, 0, true)
	if err != nil {
		return pair{}, err
	}
	if len(pairs) == 0 {
		return pair{}, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	return pairs[0], nil
}

// List implements store.Store.
func (s *Store) List(_ context.Context, kind string) ([]store.Item, uint64, error) {
	return s.mem.List(kind)
}

// Changes implements store.Store.
func (s *Store) Changes(ctx context.Context, since uint64) ([]store.Change, uint64, error) {
	return s.mem.Changes(ctx, since)
}

// scanBatch is how many keys one transaction reads: Consul's 64, and values of up
// to store.MaxTransaction each would fill its answer.
const scanBatch = 60

// Scan implements store.Store. Consul has no pages: the names are listed, and the
// records read that are asked for.
func (s *Store) Scan(ctx context.Context, kind, after string, limit int) ([]store.Item, error) {
	if s.isClosed() {
		return nil, store.ErrClosed
	}
	prefix := s.config.Prefix + "/archive/" + kind + "/"
	names, err := s.client.keys(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	slices.Sort(names)
	first, found := slices.BinarySearch(names, prefix+after)
	if found {
		first++
	}
	names = names[first:]
	names = names[:min(len(names), limit, store.MaxScan)]
	out := make([]store.Item, 0, len(names))
	for part := range slices.Chunk(names, scanBatch) {
		ops := make([]op, len(part))
		for i, name := range part {
			ops[i] = op{Verb: "get", Key: name}
		}
		r, refused, err := s.client.txn(ctx, ops)
		if err != nil {
			return nil, fmt.Errorf("consul: %w", err)
		}
		if refused { // one was deleted meanwhile
			return s.Scan(ctx, kind, after, limit)
		}
		for _, e := range r.Results {
			if key, ok := s.key(e.KV.Key); ok {
				out = append(out, store.Item{Key: key, Value: e.KV.Value, Revision: e.KV.ModifyIndex})
			}
		}
	}
	slices.SortFunc(out, func(a, b store.Item) int { return cmp.Compare(a.Key.Name, b.Key.Name) })
	return out, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, expect uint64) (store.Item, error) {
	revision, err := s.Apply(ctx, store.Write{Key: key, Value: value, Expect: expect})
	if err != nil {
		return store.Item{}, err
	}
	return store.Item{Key: key, Value: bytes.Clone(value), Revision: revision}, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key store.Key, expect uint64) error {
	_, err := s.Apply(ctx, store.Write{Key: key, Delete: true, Expect: expect})
	return err
}

// Writable implements store.Store.
func (s *Store) Writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return fmt.Errorf("%w: %w", store.ErrNotWritable, s.readErr)
	}
	return s.failed
}

// Notices are what an operator must look at although the store serves.
func (s *Store) Notices() []string {
	var out []string
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damage != nil {
		out = append(out, fmt.Sprintf("the newest copy on disk was damaged, the one before was read: %v", s.damage))
	}
	if s.stale {
		out = append(out, "Consul has not been read since the start: the last good copy on disk serves")
	}
	return out
}

func (s *Store) isClosed() bool { return s.life.Err() != nil }

// Close implements store.Store; it is safe to call twice.
func (s *Store) Close() error {
	s.end()
	s.save() // what was written since the last copy
	s.mem.Close()
	s.client.http.CloseIdleConnections()
	return nil
}

// kept is an item in the cache.
type kept struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Value    []byte `json:"value"`
	Revision uint64 `json:"revision"`
}

// save keeps a copy of the items on disk where they are others than in the last one.
func (s *Store) save() {
	if s.cache == nil {
		return
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	items, revision, err := s.mem.List("")
	if err != nil {
		return // closed
	}
	if s.kept && revision == s.keptAt {
		return
	}
	out := make([]kept, len(items))
	for i, item := range items {
		out[i] = kept{item.Key.Kind, item.Key.Name, item.Value, item.Revision}
	}
	data, err := json.Marshal(out)
	if err == nil {
		err = s.cache.Save(data)
	}
	if err != nil {
		s.log.Warn("last good copy of the store is not kept", "err", err)
		return
	}
	s.kept, s.keptAt = true, revision
}

func (s *Store) load() (map[store.Key]store.Item, error) {
	if s.cache == nil {
		return nil, errors.New("no last good copy is kept")
	}
	var items map[store.Key]store.Item
	skipped, err := s.cache.Load(func(data []byte) error {
		var list []kept
		if err := json.Unmarshal(data, &list); err != nil {
			return err
		}
		items = make(map[store.Key]store.Item, len(list))
		for _, k := range list {
			key := store.Key{Kind: k.Kind, Name: k.Name}
			items[key] = store.Item{Key: key, Value: k.Value, Revision: k.Revision}
		}
		return nil
	})
	if skipped != nil {
		s.mu.Lock()
		s.damage = skipped
		s.mu.Unlock()
		s.log.Error("a last good copy of the store is damaged, the one before serves", "err", skipped)
	}
	if err == nil && items == nil {
		err = errors.New("there is no last good copy")
	}
	return maps.Clone(items), err
}

// cacheEvery is the pause between two copies: all that a kill may take from one.
const cacheEvery = 5 * time.Second
