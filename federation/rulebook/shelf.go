package rulebook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// The refusals that callers branch on. Besides them come store.ErrNotFound and
// store.ErrNotWritable, and joined *catalog.FieldErrors for what breaks a rule.
var (
	// ErrConfigOwned: the rule is the config file's.
	ErrConfigOwned = errors.New("is kept in the config file and can be changed there only")
	// ErrExists: the name is taken.
	ErrExists = errors.New("exists already")
	// ErrChanged: the rule is not the one that the precondition names.
	ErrChanged = errors.New("has changed since it was read")
	// ErrPreconditionRequired: a replacement must say what it replaces.
	ErrPreconditionRequired = errors.New("replacing needs If-Match with the etag that was read")
	// ErrFull: as many rules of the kind are kept as may be.
	ErrFull = errors.New("no more rules of this kind are kept")
)

// Shelf holds the rules of one kind.
type Shelf[R any] struct {
	book *Book
	name string
	feed *feed.Feed[R]
	ops  shelfOps[R]
	// writing is held from the look at the other rules to the write, where rules
	// are judged beside each other.
	writing sync.Mutex
}

// shelfOps is kind with its rule type erased.
type shelfOps[R any] struct {
	encode   func(R) ([]byte, error)
	decode   func([]byte, resource.Stored) (R, error)
	fill     func(items []store.Item, config any) []R
	config   func(values [][]byte) (any, error) // what fill takes
	name     func(R) string
	setName  func(*R, string)
	stored   func(R, resource.Stored) R
	origin   func(R) resource.Origin
	validate func(R) error
	among    func(R, []feed.Entry[R]) error // nil where rules stand alone
	order    func([]store.Item) []store.Item
	most     int
	// foresee puts a rule into an outlook, or (nil) takes it out.
	foresee func(o *Outlook, name string, r *R)
}

func newShelf[R, P any](b *Book, k kind[R, P], base uint64) *Shelf[R] {
	s := &Shelf[R]{book: b, name: k.name}
	s.feed = feed.New(base, func(a, b R) bool { return reflect.DeepEqual(a, b) })
	s.ops = shelfOps[R]{
		encode: func(r R) ([]byte, error) { return json.Marshal(k.rule(r)) },
		decode: func(value []byte, st resource.Stored) (R, error) {
			var p P
			dec := json.NewDecoder(bytes.NewReader(value))
			dec.DisallowUnknownFields() // a field that we do not know may be what makes the rule strict
			err := dec.Decode(&p)
			if err != nil && k.unread != nil {
				if q, ok := k.unread(value); ok {
					p, err = q, nil
				}
			}
			return k.wrap(p, st), err
		},
		name:     func(r R) string { return k.ruleName(k.rule(r)) },
		validate: func(r R) error { return k.validate(k.rule(r)) },
		stored:   func(r R, st resource.Stored) R { return k.wrap(k.rule(r), st) },
		origin:   func(r R) resource.Origin { return k.stored(r).Origin },
		setName: func(r *R, name string) {
			p := k.rule(*r)
			k.setName(&p, name)
			*r = k.wrap(p, resource.Stored{})
		},
		most:   k.most,
		config: func(values [][]byte) (any, error) { return decodeConfig[P](values) },
		foresee: func(o *Outlook, name string, r *R) {
			var p *P
			if r != nil {
				p = new(k.rule(*r))
			}
			k.foresee(o, name, p)
		},
	}
	if k.among != nil {
		s.ops.among = func(r R, others []feed.Entry[R]) error {
			rules := make([]P, len(others))
			for i, o := range others {
				rules[i] = k.rule(o.Item)
			}
			return k.among(k.rule(r), rules)
		}
		// Of two that exclude each other the one that was written first stays.
		s.ops.order = func(items []store.Item) []store.Item {
			items = slices.Clone(items)
			slices.SortFunc(items, func(a, b store.Item) int { return cmp.Compare(a.Revision, b.Revision) })
			return items
		}
	}
	s.ops.fill = func(items []store.Item, config any) []R {
		out := make([]R, 0, len(items))
		taken := map[string]bool{}
		var rules []P // where they are judged beside each other
		if s.ops.order != nil {
			items = s.ops.order(items)
			rules = slices.Clone(config.([]P))
		}
		for _, p := range config.([]P) {
			taken[k.ruleName(p)] = true
			out = append(out, k.wrap(p, resource.Stored{Origin: resource.FromConfig, ETag: configTag(p)}))
		}
		for _, item := range items {
			if item.Key.Kind != k.name {
				continue
			}
			if taken[item.Key.Name] {
				b.log.Warn("stored policy is shadowed by the config file", "path", item.Key.String())
				continue
			}
			r, err := s.ops.decode(item.Value, resource.Stored{Origin: resource.FromAPI, ETag: ETagOf(item.Revision)})
			if err == nil {
				err = s.ops.validate(r)
			}
			if err == nil && k.among != nil {
				if err = k.among(k.rule(r), rules); err == nil {
					rules = append(rules, k.rule(r))
				}
			}
			if err != nil || s.ops.name(r) != item.Key.Name {
				// Written by another version. It is kept, and shown nowhere: to drop
				// an allow is safe, and a deny that is not understood is worth an error.
				b.log.Error("stored policy is not understood", "path", item.Key.String(), "err", err)
				continue
			}
			out = append(out, r)
		}
		slices.SortFunc(out, func(a, b R) int { return cmp.Compare(s.ops.name(a), s.ops.name(b)) })
		return out
	}
	return s
}

// configTag makes a tag for a rule without a revision; it changes with the rule.
func configTag(p any) string {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(p)
	return fmt.Sprintf(`"config-%016x"`, h.Sum64())
}

// fill makes the feed show the config's rules and the items of this kind, and
// returns them.
func (s *Shelf[R]) fill(items []store.Item, config any) []R {
	list := s.ops.fill(items, config)
	entries := make([]feed.Entry[R], len(list))
	for i, r := range list {
		entries[i] = feed.Entry[R]{Key: s.ops.name(r), Item: r}
	}
	s.feed.Replace(entries)
	return list
}

// Feed lists and watches the shelf.
func (s *Shelf[R]) Feed() *feed.Feed[R] { return s.feed }

// Name is the kind.
func (s *Shelf[R]) Name() string { return s.name }

// Create adds a rule and returns it as it is kept. With dryRun everything is
// checked and nothing is written.
func (s *Shelf[R]) Create(ctx context.Context, r R, dryRun bool) (R, error) {
	name := s.ops.name(r)
	if err := s.ops.validate(r); err != nil {
		return r, err
	}
	defer s.judging()()
	all, _ := s.feed.All()
	if have, ok := s.feed.Get(name); ok {
		return r, s.fail(name, takenBy(s.ops.origin(have)))
	}
	if len(all) >= s.ops.most {
		return r, s.fail(name, fmt.Errorf("%w: at most %d", ErrFull, s.ops.most))
	}
	if err := s.beside(r, all); err != nil {
		return r, err
	}
	if dryRun {
		return s.ops.stored(r, resource.Stored{Origin: resource.FromAPI}), nil
	}
	return s.put(ctx, name, r, store.Absent)
}

// judging keeps other writes of this process out until the returned function is
// called, where rules are judged beside each other. Two processes that write at
// once are told apart by the order of the store's revisions: see fill.
func (s *Shelf[R]) judging() (done func()) {
	if s.ops.among == nil {
		return func() {}
	}
	s.writing.Lock()
	return s.writing.Unlock
}

// beside judges a rule beside the others.
func (s *Shelf[R]) beside(r R, all []feed.Entry[R]) error {
	if s.ops.among == nil {
		return nil
	}
	return s.ops.among(r, all)
}

func takenBy(o resource.Origin) error {
	if o == resource.FromConfig {
		return ErrConfigOwned
	}
	return ErrExists
}

// Replace puts r in the place of the rule of that name, under a precondition. A
// rule without a name gets it; one of another name is refused.
func (s *Shelf[R]) Replace(ctx context.Context, name string, r R, pre Precondition, dryRun bool) (R, error) {
	switch own := s.ops.name(r); own {
	case name:
	case "":
		s.ops.setName(&r, name)
	default:
		return r, &catalog.FieldError{Field: "name", Value: own, Rule: fmt.Sprintf("must be %q, the name in the path", name)}
	}
	if err := s.ops.validate(r); err != nil {
		return r, err
	}
	defer s.judging()()
	have, err := s.current(ctx, name)
	if err != nil {
		return r, err
	}
	if !pre.IsSet() {
		return r, s.fail(name, ErrPreconditionRequired)
	}
	tag := ETagOf(have.Revision)
	if !pre.Match(tag) {
		return r, s.fail(name, ErrChanged)
	}
	all, _ := s.feed.All()
	if err := s.beside(r, all); err != nil {
		return r, err
	}
	if dryRun {
		return s.ops.stored(r, resource.Stored{Origin: resource.FromAPI, ETag: tag}), nil
	}
	if value, err := s.ops.encode(r); err == nil && bytes.Equal(value, have.Value) {
		// Nothing to write, and nothing for the history: the rule stays what it is.
		return s.ops.stored(r, resource.Stored{Origin: resource.FromAPI, ETag: tag}), nil
	}
	return s.put(ctx, name, r, have.Revision)
}

// Delete removes the rule of that name, under a precondition if one is set.
func (s *Shelf[R]) Delete(ctx context.Context, name string, pre Precondition, dryRun bool) error {
	have, err := s.current(ctx, name)
	if err != nil {
		return err
	}
	if !pre.Match(ETagOf(have.Revision)) {
		return s.fail(name, ErrChanged)
	}
	if dryRun {
		return nil
	}
	if err := s.book.store.Delete(ctx, have.Key, have.Revision); err != nil {
		return s.storeError(name, err)
	}
	s.book.log.Info("policy deleted", "path", s.name+"/"+name)
	return s.book.refresh(ctx)
}

// current is what a write starts from. The store and not the feed is asked, since
// it is the store that decides.
func (s *Shelf[R]) current(ctx context.Context, name string) (store.Item, error) {
	if have, ok := s.feed.Get(name); ok && s.ops.origin(have) == resource.FromConfig {
		return store.Item{}, s.fail(name, ErrConfigOwned)
	}
	item, err := s.book.store.Get(ctx, store.Key{Kind: s.name, Name: name})
	if err != nil {
		return store.Item{}, s.storeError(name, err)
	}
	return item, nil
}

func (s *Shelf[R]) put(ctx context.Context, name string, r R, expect uint64) (R, error) {
	value, err := s.ops.encode(r)
	if err != nil {
		return r, s.fail(name, err)
	}
	item, err := s.book.store.Put(ctx, store.Key{Kind: s.name, Name: name}, value, expect)
	if err != nil {
		return r, s.storeError(name, err)
	}
	s.book.log.Info("policy stored", "path", s.name+"/"+name, "version", item.Revision)
	if err := s.book.refresh(ctx); err != nil {
		return r, err
	}
	return s.ops.stored(r, resource.Stored{Origin: resource.FromAPI, ETag: ETagOf(item.Revision)}), nil
}

// storeError says in the shelf's words what the store refused: someone was
// faster between the look and the write.
func (s *Shelf[R]) storeError(name string, err error) error {
	var c *store.ConflictError
	switch {
	case !errors.As(err, &c):
		return err
	case c.Expected == store.Absent:
		return s.fail(name, ErrExists)
	case c.Have == store.Absent:
		return s.fail(name, store.ErrNotFound)
	default:
		return s.fail(name, ErrChanged)
	}
}

func (s *Shelf[R]) fail(name string, err error) error {
	return fmt.Errorf("%s/%s: %w", s.name, name, err)
}

// NameOf is the name of a rule.
func (s *Shelf[R]) NameOf(r R) string { return s.ops.name(r) }
