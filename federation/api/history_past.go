package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

// PastInput lists rules without a filter, as they are or as they were.
type PastInput[T any] struct {
	AllInput[T]
	AsOf string `query:"as_of" maxLength:"64" doc:"The list as it was after this record of the history: its sequence, or a time in RFC 3339."`
}

func (in *PastInput[T]) asOf() string { return in.AsOf }

// pastFunc makes a list as it was.
type pastFunc[T any] func(ctx context.Context, asOf string) ([]feed.Entry[T], error)

// pageOfPast answers one page of what was; nothing of it can be watched.
func pageOfPast[T any](ctx context.Context, past pastFunc[T], asOf string, in *ListInput, keep filter[T]) (*listOutput, error) {
	if in.Watch {
		return nil, answerTo(&catalog.FieldError{Field: "watch", Value: true, Rule: "does not go with as_of: what was does not change"}, "query")
	}
	entries, err := past(ctx, asOf)
	if err != nil {
		return nil, answerTo(err, "query")
	}
	in.IfNoneMatch = "" // a past list has no revisions to tell it by
	then := feed.New(0, func(T, T) bool { return false })
	then.Replace(entries)
	return pageOf(then, in, keep)
}

// pastShelf is a shelf as it was.
func pastShelf[R any](s *Server, shelf *rulebook.Shelf[R]) pastFunc[R] {
	return func(ctx context.Context, asOf string) ([]feed.Entry[R], error) {
		state, err := s.stateAt(ctx, asOf)
		if err != nil {
			return nil, err
		}
		list, err := shelf.Past(state.Items(shelf.Name()), state.Config(shelf.Name()))
		if err != nil {
			return nil, err
		}
		out := make([]feed.Entry[R], len(list))
		for i, r := range list {
			out[i] = feed.Entry[R]{Key: shelf.NameOf(r), Item: r}
		}
		return out, nil
	}
}

// pastPeers are the peers as they were written then: what was known of them is
// not kept.
func (s *Server) pastPeers(ctx context.Context, asOf string) ([]feed.Entry[resource.Peer], error) {
	rules, err := pastShelf(s, s.opts.Rules.PeerRules())(ctx, asOf)
	out := make([]feed.Entry[resource.Peer], len(rules))
	for i, r := range rules {
		peer := newPeer(r.Item)
		peer.Spec, peer.Stored = r.Item.Peer, r.Item.Stored
		out[i] = feed.Entry[resource.Peer]{Key: r.Key, Item: peer}
	}
	return out, err
}

// pastItem is one item of what was.
func pastItem[T any](ctx context.Context, past pastFunc[T], asOf, singular, name string) (T, error) {
	entries, err := past(ctx, asOf)
	if err != nil {
		var zero T
		return zero, answerTo(err, "query")
	}
	i, ok := slices.BinarySearchFunc(entries, name, func(e feed.Entry[T], n string) int { return cmp.Compare(e.Key, n) })
	if !ok {
		var zero T
		return zero, problem(http.StatusNotFound, CodeNotFound, "no "+singular+" \""+name+"\" as of "+asOf)
	}
	return entries[i].Item, nil
}

// errNoHistory is the answer of a server without one.
var errNoHistory = problem(http.StatusNotFound, CodeNotFound, "no history is kept")

func (s *Server) stateAt(ctx context.Context, asOf string) (history.State, error) {
	if s.opts.History == nil {
		return history.State{}, errNoHistory
	}
	state, err := s.opts.History.At(ctx, asOf)
	if bad, ok := errors.AsType[*history.AsOfError](err); ok {
		err = &catalog.FieldError{Field: "as_of", Value: bad.Value, Rule: "must be a sequence number or a time as in 2006-01-02T15:04:05Z"}
	}
	return state, err
}
