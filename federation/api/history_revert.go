package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

type revertInput struct {
	SequenceInput
	Force  bool `query:"force" doc:"Also where the rule has been changed since."`
	DryRun bool `query:"dry_run" doc:"Check everything, write nothing; answers what would change."`
}

type revertToInput struct {
	AsOf   string `query:"as_of" required:"true" maxLength:"64" doc:"The state to bring back: after this record of the history (its sequence), or at this time (RFC 3339)."`
	DryRun bool   `query:"dry_run" doc:"Check everything, write nothing; answers what would change."`
}

// revertErrors are the answers of both reverts besides 200.
func revertErrors() []int {
	return []int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusGone,
		http.StatusPreconditionFailed, http.StatusServiceUnavailable,
	}
}

func (s *Server) registerReverts(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "revert-change", Method: http.MethodPost, Path: "/v1/history/{seq}/revert",
		Summary: "Make one rule what it was before a change.", Tags: []string{"history"},
		DefaultStatus: http.StatusOK, Errors: revertErrors(),
	}, func(ctx context.Context, in *revertInput) (*itemOutput[resource.Revert], error) {
		n, err := in.number()
		if err != nil {
			return nil, err
		}
		change, err := s.undo(ctx, n, in.Force)
		if err != nil {
			return nil, answerTo(err, "path")
		}
		return s.restore(ctx, n-1, []rulebook.Change{change}, in.DryRun, fmt.Sprintf("revert of change %d", n))
	})

	huma.Register(api, huma.Operation{
		OperationID: "revert-history", Method: http.MethodPost, Path: "/v1/history/revert",
		Summary: "Make every rule that is kept here what it was then; those of the config file are not touched.", Tags: []string{"history"},
		DefaultStatus: http.StatusOK, Errors: revertErrors(),
	}, func(ctx context.Context, in *revertToInput) (*itemOutput[resource.Revert], error) {
		state, err := s.stateAt(ctx, in.AsOf)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		changes, err := s.backTo(ctx, state)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		return s.restore(ctx, state.Sequence, changes, in.DryRun, fmt.Sprintf("revert to the state after change %d", state.Sequence))
	})
}

// undo is the change that takes a record back.
func (s *Server) undo(ctx context.Context, sequence uint64, force bool) (rulebook.Change, error) {
	r, err := s.opts.History.Find(ctx, sequence)
	if err != nil {
		return rulebook.Change{}, err
	}
	switch {
	case r.Action == history.Checkpoint:
		return rulebook.Change{}, &catalog.FieldError{Field: "seq", Value: sequence, Rule: "is a checkpoint: there is nothing to take back"}
	case !slices.Contains(rulebook.Kinds(), r.Kind):
		return rulebook.Change{}, &catalog.FieldError{Field: "seq", Value: sequence, Rule: fmt.Sprintf("is of %s: there is nothing to take back", r.Kind)}
	case r.Origin == history.Config:
		return rulebook.Change{}, fmt.Errorf("%s/%s: %w", r.Kind, r.Name, rulebook.ErrConfigOwned)
	}
	stored, err := s.opts.Rules.Stored(ctx, r.Kind)
	if err != nil {
		return rulebook.Change{}, err
	}
	var now []byte
	for _, c := range stored {
		if c.Name == r.Name {
			now = c.Value
		}
	}
	if !force && ((now == nil) != (r.After == nil) || !bytes.Equal(now, r.After)) {
		return rulebook.Change{}, fmt.Errorf("%s/%s: %w: it is no longer what change %d made it", r.Kind, r.Name, rulebook.ErrChanged, sequence)
	}
	return rulebook.Change{Kind: r.Kind, Name: r.Name, Value: r.Before}, nil
}

// backTo are the changes that lead from what is kept here now to a past state.
func (s *Server) backTo(ctx context.Context, state history.State) ([]rulebook.Change, error) {
	var out []rulebook.Change
	for _, kind := range rulebook.Kinds() {
		stored, err := s.opts.Rules.Stored(ctx, kind)
		if err != nil {
			return nil, err
		}
		then := make(map[string][]byte)
		for _, item := range state.Items(kind) {
			then[item.Key.Name] = item.Value
		}
		for _, c := range stored {
			if value, was := then[c.Name]; !was {
				out = append(out, rulebook.Change{Kind: kind, Name: c.Name})
			} else if bytes.Equal(value, c.Value) {
				delete(then, c.Name)
			}
		}
		for _, item := range state.Items(kind) {
			if value, differs := then[item.Key.Name]; differs {
				out = append(out, rulebook.Change{Kind: kind, Name: item.Key.Name, Value: value})
			}
		}
	}
	return out, nil
}

// restore makes changes and answers what they were. Whom the cluster trusts is
// an admin's matter, also in the past.
func (s *Server) restore(ctx context.Context, asOf uint64, changes []rulebook.Change, dryRun bool, reason string) (*itemOutput[resource.Revert], error) {
	p := PrincipalFrom(ctx)
	for _, c := range changes {
		if c.Kind == rulebook.Peers && !p.Role.Allows(Admin) {
			return nil, problem(http.StatusForbidden, CodeForbidden, fmt.Sprintf("peers/%s would change: that needs the role %s; %s has %s", c.Name, Admin, p.Name, p.Role))
		}
	}
	if author := store.AuthorFrom(ctx); author.Reason == "" {
		author.Reason = reason
		ctx = store.WithAuthor(ctx, author)
	}
	done, err := s.opts.Rules.Restore(ctx, changes, dryRun)
	if err != nil {
		return nil, answerTo(err, "query")
	}
	out := &itemOutput[resource.Revert]{Body: resource.Revert{DryRun: dryRun, AsOf: asOf, Changes: make([]resource.RevertedRule, len(done))}}
	for i, d := range done {
		action := history.Replace
		switch {
		case d.Before == nil:
			action = history.Create
		case d.After == nil:
			action = history.Delete
		}
		out.Body.Changes[i] = resource.RevertedRule{Kind: d.Kind, Name: d.Name, Action: string(action), Before: d.Before, After: d.After}
	}
	return out, nil
}
