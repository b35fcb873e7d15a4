package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

// AppliedInput names a set of declarative files.
type AppliedInput struct {
	Set string `path:"set" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" doc:"Name of the set: a DNS label."`
}

// AppliedRuleInput names one rule of a set.
type AppliedRuleInput struct {
	AppliedInput
	Kind string `path:"kind" enum:"peers,exports,imports,intentions,traffic-policies"`
	Name string `path:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"`
}

type rememberInput struct {
	AppliedRuleInput
	Body map[string]any `doc:"The rule as the files have it."`
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
		OperationID: "remember-applied-rule", Method: http.MethodPut, Path: "/v1/applied/{set}/{kind}/{name}",
		Summary: "Remember a rule as the files of a set have it; the rule itself is not touched.",
		Tags:    []string{"applied"}, DefaultStatus: http.StatusNoContent,
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *rememberInput) (*struct{}, error) {
		if err := mayApply(ctx, in.Kind); err != nil {
			return nil, err
		}
		rule, err := json.Marshal(in.Body)
		if err == nil {
			err = applied.Remember(ctx, in.Set, resource.AppliedRule{Kind: in.Kind, Name: in.Name, Rule: rule})
		}
		if err != nil {
			return nil, answerTo(err, "body")
		}
		return nil, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "forget-applied-rule", Method: http.MethodDelete, Path: "/v1/applied/{set}/{kind}/{name}",
		Summary: "Forget what a set applied of one rule; the rule itself is not touched.",
		Tags:    []string{"applied"}, DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *AppliedRuleInput) (*struct{}, error) {
		if err := mayApply(ctx, in.Kind); err != nil {
			return nil, err
		}
		if err := applied.Forget(ctx, in.Set, in.Kind, in.Name); err != nil {
			return nil, answerTo(err, "path")
		}
		return nil, nil
	})
}

// mayApply lets admins alone say what was applied of peers: an admin's next apply
// removes a peer that was applied before and that the files no longer have.
func mayApply(ctx context.Context, kind string) error {
	p := PrincipalFrom(ctx)
	if kind == rulebook.Peers && !p.Role.Allows(Admin) {
		return problem(http.StatusForbidden, CodeForbidden, fmt.Sprintf("what was applied of peers needs the role %s; %s has %s", Admin, p.Name, p.Role))
	}
	return nil
}
