package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

// AppliedInput names a set of declarative files.
type AppliedInput struct {
	Set string `path:"set" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" doc:"Name of the set: a DNS label."`
}

type forgetInput struct {
	AppliedInput
	Kind string `path:"kind" enum:"peers,exports,imports,intentions,traffic-policies"`
	Name string `path:"name" maxLength:"253"`
}

type appliedOutput struct{ Body resource.AppliedSet }

// registerApplied serves what sets of declarative files applied last.
func (s *Server) registerApplied(api huma.API) {
	applied := s.opts.Rules.Applied()
	huma.Register(api, huma.Operation{
		OperationID: "get-applied-set", Method: http.MethodGet, Path: "/v1/applied/{set}",
		Summary: "What a set of declarative files applied last: the base of its next three-way comparison.",
		Tags:    []string{"applied"}, Errors: []int{http.StatusUnauthorized},
	}, func(ctx context.Context, in *AppliedInput) (*appliedOutput, error) {
		rules, err := applied.List(ctx, in.Set)
		if err != nil {
			return nil, answerTo(err, "path")
		}
		return &appliedOutput{resource.AppliedSet{Set: in.Set, Rules: rules}}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "forget-applied-rule", Method: http.MethodDelete, Path: "/v1/applied/{set}/{kind}/{name}",
		Summary: "Forget what a set applied of one rule; the rule itself is not touched.",
		Tags:    []string{"applied"}, DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *forgetInput) (*struct{}, error) {
		if err := applied.Forget(ctx, in.Set, in.Kind, in.Name); err != nil {
			return nil, answerTo(err, "path")
		}
		return nil, nil
	})
}

// AppliedHeader is the header by which a set of declarative files marks its writes.
type AppliedHeader struct {
	AppliedSet string `header:"Isthmus-Applied-Set" pattern:"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$" doc:"The write is one of this set of declarative files (a DNS label), and the base of its next comparison."`
}

// mark carries the header to the rulebook.
func (h AppliedHeader) mark(ctx context.Context) context.Context {
	if h.AppliedSet == "" {
		return ctx
	}
	return rulebook.WithAppliedSet(ctx, h.AppliedSet)
}
