package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

type ruleGetInput struct {
	Name        string `path:"name" maxLength:"253"`
	IfNoneMatch string `header:"If-None-Match" doc:"The etag that is held; 304 where it is still the current one."`
	AsOf        string `query:"as_of" maxLength:"64" doc:"The rule as it was after this record of the history: its sequence, or a time in RFC 3339."`
}

type ruleCreateInput[R any] struct {
	DryRun bool `query:"dry_run" doc:"Check everything, write nothing; answers 200 with what would be stored."`
	Body   ruleBody[R]
}

type ruleReplaceInput[R any] struct {
	Name    string `path:"name" maxLength:"253"`
	IfMatch string `header:"If-Match" doc:"The etag that was read, or *."`
	DryRun  bool   `query:"dry_run" doc:"Check everything, write nothing; answers 200 with what would be stored."`
	Body    ruleBody[R]
}

type ruleDeleteInput struct {
	Name    string `path:"name" maxLength:"253"`
	IfMatch string `header:"If-Match" doc:"Delete this version only."`
	DryRun  bool   `query:"dry_run" doc:"Check everything, write nothing."`
}

type ruleOutput[R any] struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     R
}

func (s *Server) registerRules(api huma.API) {
	r := s.opts.Rules
	registerShelf(s, api, r.Exports(), "export", "Exports: what this cluster offers, and to whom.", etagExport)
	registerShelf(s, api, r.Imports(), "import", "Imports: what this cluster takes, and from whom.", etagImport)
	registerShelf(s, api, r.Intentions(), "intention", "Intentions: who may call the services of this cluster.", etagIntention)
	registerShelf(s, api, r.TrafficPolicies(), "traffic-policy", "Traffic policies: how calls from this cluster are balanced.", etagTraffic)
}

// registerShelf serves one kind of rule.
func registerShelf[R any](s *Server, api huma.API, shelf *rulebook.Shelf[R], singular, summary string, etag func(R) string) {
	plural := shelf.Name()
	one := "/v1/" + plural + "/{name}"
	registerList[PastInput[R]](s, api, plural, summary, shelf.Feed(), pastShelf(s, shelf))

	huma.Register(api, huma.Operation{
		OperationID: "get-" + singular, Method: http.MethodGet, Path: one,
		Summary: "One rule, with its ETag.", Tags: []string{plural},
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone},
	}, func(ctx context.Context, in *ruleGetInput) (*ruleOutput[R], error) {
		if in.AsOf != "" {
			was, err := pastItem(ctx, pastShelf(s, shelf), in.AsOf, singular, in.Name)
			return &ruleOutput[R]{Status: http.StatusOK, ETag: etag(was), Body: was}, err
		}
		r, ok := shelf.Feed().Get(in.Name)
		if !ok {
			return nil, problem(http.StatusNotFound, CodeNotFound, "no "+singular+" \""+in.Name+"\"")
		}
		if in.IfNoneMatch != "" {
			if p, err := rulebook.ParseIfMatch(in.IfNoneMatch); err == nil && p.Match(etag(r)) {
				return nil, notModified(etag(r))
			}
		}
		return &ruleOutput[R]{Status: http.StatusOK, ETag: etag(r), Body: r}, nil
	})
	registerWrites(api, shelf, singular, etag, Operator)
}

// registerWrites serves the writes of one kind of rule, for those who have the
// role.
func registerWrites[R any](api huma.API, shelf *rulebook.Shelf[R], singular string, etag func(R) string, role Role) {
	plural := shelf.Name()
	one := "/v1/" + plural + "/{name}"
	huma.Register(api, huma.Operation{
		OperationID: "create-" + singular, Method: http.MethodPost, Path: "/v1/" + plural,
		Summary: "Create a rule.", Tags: []string{plural}, Metadata: needs(role), DefaultStatus: http.StatusCreated,
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType, http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *ruleCreateInput[R]) (*ruleOutput[R], error) {
		rule, err := in.Body.decode()
		if err != nil {
			return nil, answerTo(err, "body")
		}
		made, err := shelf.Create(ctx, rule, in.DryRun)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		out := &ruleOutput[R]{Status: http.StatusCreated, ETag: etag(made), Body: made}
		if in.DryRun {
			out.Status = http.StatusOK
		} else {
			out.Location = "/v1/" + plural + "/" + shelf.NameOf(made)
		}
		return out, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "replace-" + singular, Method: http.MethodPut, Path: one,
		Summary: "Replace a rule that was read, under If-Match.", Tags: []string{plural}, Metadata: needs(role),
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusPreconditionRequired, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *ruleReplaceInput[R]) (*ruleOutput[R], error) {
		pre, err := precondition(in.IfMatch)
		if err != nil {
			return nil, err
		}
		rule, err := in.Body.decode()
		if err != nil {
			return nil, answerTo(err, "body")
		}
		if have, ok := shelf.Feed().Get(in.Name); ok {
			changes(ctx, etag(have))
		}
		put, err := shelf.Replace(ctx, in.Name, rule, pre, in.DryRun)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		return &ruleOutput[R]{Status: http.StatusOK, ETag: etag(put), Body: put}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "delete-" + singular, Method: http.MethodDelete, Path: one,
		Summary: "Delete a rule.", Tags: []string{plural}, Metadata: needs(role), DefaultStatus: http.StatusNoContent,
		Errors: []int{
			http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *ruleDeleteInput) (*struct{}, error) {
		pre, err := precondition(in.IfMatch)
		if err != nil {
			return nil, err
		}
		if have, ok := shelf.Feed().Get(in.Name); ok {
			changes(ctx, etag(have))
		}
		if err := shelf.Delete(ctx, in.Name, pre, in.DryRun); err != nil {
			return nil, answerTo(err, "body")
		}
		return nil, nil
	})
}
