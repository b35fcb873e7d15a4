package store_test

import (
	"context"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

func TestAuthorTravelsWithTheContext(t *testing.T) {
	want := store.Author{Principal: "alice", Reason: "move web to west", RequestID: "r-1"}
	ctx := store.WithAuthor(t.Context(), want)
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	if got := store.AuthorFrom(child); got != want {
		t.Errorf("AuthorFrom = %+v, want %+v", got, want)
	}
	if got := store.AuthorFrom(t.Context()); got != (store.Author{}) {
		t.Errorf("AuthorFrom without an author = %+v, want none", got)
	}
}
