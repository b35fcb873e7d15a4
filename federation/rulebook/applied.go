package rulebook

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// AppliedKind is the kind under which the store keeps what was applied. It is no
// policy: nothing follows from it but the next plan of the same set.
const AppliedKind = "applied"

// appliedSep joins set, kind and name to an item's name; none of them holds it.
const appliedSep = "~"

type appliedSetKey struct{}

// WithAppliedSet marks the writes under ctx as those of a set of declarative
// files: what they write is remembered as what the set applied last.
func WithAppliedSet(ctx context.Context, set string) context.Context {
	return context.WithValue(ctx, appliedSetKey{}, set)
}

// Applied remembers, for each set of declarative files, the rules as it applied
// them last: the base of its next three-way comparison. It is safe for
// concurrent use.
type Applied struct {
	store store.Store
	log   *slog.Logger
}

func appliedKey(set string, rule store.Key) store.Key {
	return store.Key{Kind: AppliedKind, Name: strings.Join([]string{set, rule.Kind, rule.Name}, appliedSep)}
}

// List returns what the set applied, sorted by kind and name; nothing for a set
// that never applied anything.
func (a *Applied) List(ctx context.Context, set string) ([]resource.AppliedRule, error) {
	items, _, err := a.store.List(ctx, AppliedKind)
	if err != nil {
		return nil, err
	}
	out := []resource.AppliedRule{}
	for _, item := range items {
		rest, ours := strings.CutPrefix(item.Key.Name, set+appliedSep)
		kind, name, whole := strings.Cut(rest, appliedSep)
		if ours && whole {
			out = append(out, resource.AppliedRule{Kind: kind, Name: name, Rule: item.Value})
		}
	}
	return out, nil
}

// Forget drops what the set applied of one rule, whether or not there is any: the
// rule itself is not touched.
func (a *Applied) Forget(ctx context.Context, set, kind, name string) error {
	err := a.store.Delete(ctx, appliedKey(set, store.Key{Kind: kind, Name: name}), store.Any)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// keep and drop follow a write that has happened. An error is no reason to call
// the write failed: the set's next plan finds the rule as its files want it and
// adopts it.
func (a *Applied) keep(ctx context.Context, rule store.Key, value []byte) {
	set, ok := ctx.Value(appliedSetKey{}).(string)
	if !ok {
		return
	}
	if _, err := a.store.Put(ctx, appliedKey(set, rule), value, store.Any); err != nil {
		a.log.Warn("what a set of files applied is not remembered", "path", rule.String(), "err", err)
	}
}

func (a *Applied) drop(ctx context.Context, rule store.Key) {
	set, ok := ctx.Value(appliedSetKey{}).(string)
	if !ok {
		return
	}
	if err := a.Forget(ctx, set, rule.Kind, rule.Name); err != nil {
		a.log.Warn("what a set of files applied is not forgotten", "path", rule.String(), "err", err)
	}
}
