package history

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Rule is one rule of the config file.
type Rule struct {
	Kind, Name string
	Value      []byte
}

// configRules are what the config file says.
type configRules struct {
	rules map[ruleKey][]byte
	due   bool // not recorded yet
}

// SetConfig records what the rules of the config file have become, against those
// that were recorded last, by this process or another. Where the store takes no
// writes Run makes it good later; the error says so.
func (l *Log) SetConfig(ctx context.Context, rules []Rule) error {
	wanted := configRules{rules: make(map[ruleKey][]byte, len(rules)), due: true}
	for _, r := range rules {
		wanted.rules[ruleKey{Config, r.Kind, r.Name}] = r.Value
	}
	l.mu.Lock()
	l.config = wanted
	l.mu.Unlock()
	return l.recordWanted(ctx)
}

// recordWanted records the changes of the config file that are not yet.
func (l *Log) recordWanted(ctx context.Context) error {
	l.mu.Lock()
	wanted := l.config
	l.mu.Unlock()
	if !wanted.due {
		return nil
	}
	ctx = store.WithAuthor(ctx, store.Author{Principal: ConfigPrincipal})
	for {
		left := 0
		_, err := l.append(ctx, func(ctx context.Context, end *head) ([]store.Write, []*Record, error) {
			records, err := l.upTo(ctx, end)
			if err != nil {
				return nil, nil, err
			}
			changes := differences(rebuild(records, end.Sequence).last, wanted.rules)
			left = len(changes)
			return nil, fitting(changes), nil
		})
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
	}
	l.mu.Lock()
	l.config.due = false
	l.mu.Unlock()
	return nil
}

// differences are the records that lead from what is recorded to what is wanted,
// by kind and name.
func differences(have map[ruleKey]*Record, want map[ruleKey][]byte) []*Record {
	var out []*Record
	for key, value := range want {
		r := &Record{Action: Create, Origin: Config, Kind: key.kind, Name: key.name, After: value}
		if before := have[key]; before != nil {
			if bytes.Equal(before.After, value) {
				continue
			}
			r.Action, r.Before = Replace, before.After
		}
		out = append(out, r)
	}
	for key, before := range have {
		if _, stays := want[key]; key.origin == Config && !stays {
			out = append(out, &Record{Action: Delete, Origin: Config, Kind: key.kind, Name: key.name, Before: before.After})
		}
	}
	slices.SortFunc(out, func(a, b *Record) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

// fitting is the start of records that one transaction can hold, with the head.
func fitting(records []*Record) []*Record {
	size := int64(0)
	for i, r := range records {
		if size += r.size(); i == store.MaxWrites-1 || i > 0 && size > store.MaxTransaction/2 {
			return records[:i]
		}
	}
	return records
}
