package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
)

// History is what the API asks of the history; *history.Log is one.
type History interface {
	Feed() *feed.Feed[resource.Change]
	Find(ctx context.Context, sequence uint64) (*history.Record, error)
	At(ctx context.Context, asOf string) (history.State, error)
	Verify(ctx context.Context) (resource.Verification, error)
	Sync(ctx context.Context) error
}

// HistoryInput lists records by what they are about, who made them and when.
type HistoryInput struct {
	ListInput
	Kind      string    `query:"kind" maxLength:"63" doc:"Changes of this kind only."`
	Name      string    `query:"name" maxLength:"253" doc:"Changes of rules of this name only."`
	Principal string    `query:"principal" maxLength:"512" doc:"Changes by this principal only."`
	From      time.Time `query:"from" doc:"Changes at or after this time (RFC 3339)."`
	To        time.Time `query:"to" doc:"Changes before this time (RFC 3339)."`
}

func (in *HistoryInput) keep() (func(resource.Change) bool, error) {
	if !in.From.IsZero() && !in.To.IsZero() && !in.From.Before(in.To) {
		return nil, &catalog.FieldError{Field: "to", Value: in.To.Format(time.RFC3339), Rule: "must be after from"}
	}
	return func(c resource.Change) bool {
		return (in.Kind == "" || c.Kind == in.Kind) && (in.Name == "" || c.Name == in.Name) &&
			(in.Principal == "" || c.Principal == in.Principal) &&
			(in.From.IsZero() || !c.At.Before(in.From)) && (in.To.IsZero() || c.At.Before(in.To))
	}, nil
}

// SequenceInput names one record.
type SequenceInput struct {
	Sequence string `path:"seq" pattern:"^[1-9][0-9]{0,18}$" doc:"Sequence of the record."`
}

func (in *SequenceInput) number() (uint64, error) {
	n, err := strconv.ParseUint(in.Sequence, 10, 64)
	if err != nil {
		return 0, answerTo(&catalog.FieldError{Field: "seq", Value: in.Sequence, Rule: "must be a sequence number"}, "path")
	}
	return n, nil
}

func (s *Server) registerHistory(api huma.API) {
	h := s.opts.History
	if h == nil {
		return
	}
	registerList[HistoryInput](s, api, "history", "The history: every change of policy and peers, who made it and why.", h.Feed())

	huma.Register(api, huma.Operation{
		OperationID: "get-change", Method: http.MethodGet, Path: "/v1/history/{seq}",
		Summary: "One change, and what differs between before and after.", Tags: []string{"history"},
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone},
	}, func(ctx context.Context, in *SequenceInput) (*itemOutput[resource.ChangeDetail], error) {
		n, err := in.number()
		if err != nil {
			return nil, err
		}
		r, err := h.Find(ctx, n)
		if err != nil {
			return nil, answerTo(err, "path")
		}
		return &itemOutput[resource.ChangeDetail]{Body: resource.ChangeDetail{Change: r.Change(), Diff: history.Diff(r.Before, r.After)}}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "verify-history", Method: http.MethodGet, Path: "/v1/history/verify",
		Summary: "Read every record anew and judge the chain; the first that does not fit is named.", Tags: []string{"history"},
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*itemOutput[resource.Verification], error) {
		v, err := h.Verify(ctx)
		if err != nil {
			return nil, problem(http.StatusServiceUnavailable, CodeNotReadable, fmt.Sprintf("the records cannot be read: %v", err))
		}
		return &itemOutput[resource.Verification]{Body: v}, nil
	})
	s.registerReverts(api)
}
