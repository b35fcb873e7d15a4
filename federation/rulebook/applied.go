package rulebook

import (
	"context"
	"errors"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// AppliedKind is the kind under which the store keeps what was applied. It is no
// policy: nothing follows from it but the next plan of the same set.
const AppliedKind = "applied"

// appliedSep joins set, kind and name to an item's name; none of them holds it.
const appliedSep = "~"

// Applied remembers, for each set of declarative files, the rules as the files had
// them when they were applied last: the base of the set's next three-way
// comparison. It knows nothing of the rules that hold. It is safe for concurrent
// use.
type Applied struct{ store store.Store }

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

// Remember keeps a rule as the files of the set have it.
func (a *Applied) Remember(ctx context.Context, set string, rule resource.AppliedRule) error {
	key := appliedKey(set, store.Key{Kind: rule.Kind, Name: rule.Name})
	_, err := a.store.Put(ctx, key, rule.Rule, store.Any)
	return err
}
