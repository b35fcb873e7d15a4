package rulebook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Kinds are the kinds of rules that a book keeps.
func Kinds() []string { return []string{Exports, Imports, Intentions, TrafficPolicies, Peers} }

// Past is what the shelf held where the store held items and the config file
// these rules, as the store has them: the same rules in the same form as the feed
// showed them then.
func (s *Shelf[R]) Past(items []store.Item, config [][]byte) ([]R, error) {
	rules, err := s.ops.config(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.ops.fill(items, rules), nil
}

// ConfigRules are the rules that the config file holds now, as the history has
// them.
func (b *Book) ConfigRules() ([]history.Rule, error) {
	var out []history.Rule
	var errs []error
	for _, s := range b.shelves() {
		rules, err := s.configRules()
		out, errs = append(out, rules...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// anyShelf is a Shelf whatever it holds.
type anyShelf interface {
	Name() string
	configRules() ([]history.Rule, error)
	judge(items []store.Item, changes []Change) error
}

func (b *Book) shelves() []anyShelf {
	return []anyShelf{b.exports, b.imports, b.intentions, b.traffic, b.peers}
}

// configRules reads the feed: what it shows of the file is what the file holds.
func (s *Shelf[R]) configRules() ([]history.Rule, error) {
	all, _ := s.feed.All()
	var out []history.Rule
	for _, e := range all {
		if s.ops.origin(e.Item) != resource.FromConfig {
			continue
		}
		value, err := s.ops.encode(e.Item)
		if err != nil {
			return nil, s.fail(e.Key, err)
		}
		out = append(out, history.Rule{Kind: s.name, Name: e.Key, Value: value})
	}
	return out, nil
}

// Change is one rule as it is to become: Value as the store has it, nil for none.
type Change struct {
	Kind, Name string
	Value      []byte
}

// Restored is one rule that Restore has changed: nil is none.
type Restored struct {
	Kind, Name    string
	Before, After []byte
}

// maxTogether and maxTogetherBytes bound the changes of one transaction: each is
// recorded with the value before and after it.
const (
	maxTogether      = (store.MaxWrites - 1) / 2
	maxTogetherBytes = store.MaxTransaction - 64<<10
)

// Restore makes rules what changes say, as they were once: each is judged as if
// it were written anew, beside what else there is then. All are changed in one
// transaction where that can hold them, and in as few as it takes elsewhere; the
// answer holds what was done, also with an error. With dryRun nothing is written.
func (b *Book) Restore(ctx context.Context, changes []Change, dryRun bool) ([]Restored, error) {
	items, _, err := b.store.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	have := make(map[store.Key]store.Item, len(items))
	for _, i := range items {
		have[i.Key] = i
	}
	for _, s := range b.shelves() {
		own := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Kind != s.Name() })
		if len(own) == 0 {
			continue
		}
		if err := s.judge(items, own); err != nil {
			return nil, err
		}
	}
	var (
		writes []store.Write
		all    []Restored
	)
	for _, c := range changes {
		if !slices.Contains(Kinds(), c.Kind) {
			return nil, fmt.Errorf("%s/%s: no kind of rule: %w", c.Kind, c.Name, store.ErrNotFound)
		}
		key := store.Key{Kind: c.Kind, Name: c.Name}
		item, there := have[key]
		if there == (c.Value != nil) && string(item.Value) == string(c.Value) {
			continue
		}
		writes = append(writes, store.Write{Key: key, Value: c.Value, Delete: c.Value == nil, Expect: item.Revision})
		all = append(all, Restored{Kind: c.Kind, Name: c.Name, Before: item.Value, After: c.Value})
	}
	if dryRun || len(writes) == 0 {
		return all, nil
	}
	done := 0
	for done < len(writes) && err == nil {
		n := together(all[done:])
		if _, err = b.store.Apply(ctx, writes[done:done+n]...); err == nil {
			done += n
		}
	}
	if _, raced := errors.AsType[*store.ConflictError](err); raced {
		err = fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		b.log.Warn("policies restored in part", "count", done, "err", err)
	} else {
		b.log.Info("policies restored", "count", done)
	}
	return all[:done], errors.Join(err, b.refresh(ctx))
}

// together is how many of the first changes one transaction takes.
func together(changes []Restored) int {
	size := 0
	for i, c := range changes {
		if size += len(c.Before) + 2*len(c.After) + 1024; i == maxTogether || i > 0 && size > maxTogetherBytes {
			return i
		}
	}
	return len(changes)
}

// judge refuses changes that a write would refuse: items are what the store
// holds.
func (s *Shelf[R]) judge(items []store.Item, changes []Change) error {
	next := make(map[string]store.Item)
	for _, i := range items {
		if i.Key.Kind == s.name {
			next[i.Key.Name] = i
		}
	}
	for _, c := range changes {
		if have, ok := s.feed.Get(c.Name); ok && s.ops.origin(have) == resource.FromConfig {
			return s.fail(c.Name, ErrConfigOwned)
		}
		if c.Value == nil {
			delete(next, c.Name)
			continue
		}
		// Of rules that exclude each other the later one gives way: see fill.
		next[c.Name] = store.Item{Key: store.Key{Kind: s.name, Name: c.Name}, Value: c.Value, Revision: store.Any}
		r, err := s.ops.decode(c.Value, resource.Stored{})
		if err == nil {
			err = s.ops.validate(r)
		}
		if err != nil {
			return s.fail(c.Name, err)
		}
	}
	all := make([]store.Item, 0, len(next))
	for _, i := range next {
		all = append(all, i)
	}
	config, err := s.configRules()
	if err != nil {
		return err
	}
	values := make([][]byte, len(config))
	for i, c := range config {
		values[i] = c.Value
	}
	then, err := s.Past(all, values)
	if err != nil {
		return err
	}
	if len(then) > s.ops.most {
		return fmt.Errorf("%s: %w: at most %d", s.name, ErrFull, s.ops.most)
	}
	for _, c := range changes {
		shown := slices.ContainsFunc(then, func(r R) bool { return s.ops.name(r) == c.Name })
		if c.Value != nil && !shown {
			return s.fail(c.Name, errors.New("does not stand beside the other rules"))
		}
	}
	return nil
}

// decodeConfig reads rules of the config file from the form of the store.
func decodeConfig[P any](values [][]byte) ([]P, error) {
	out := make([]P, len(values))
	for i, v := range values {
		if err := json.Unmarshal(v, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Stored are the rules of a kind that the store keeps, by name: those that the
// config file shadows too.
func (b *Book) Stored(ctx context.Context, kind string) ([]Change, error) {
	items, _, err := b.store.List(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	out := make([]Change, len(items))
	for i, item := range items {
		out[i] = Change{Kind: kind, Name: item.Key.Name, Value: item.Value}
	}
	return out, nil
}
