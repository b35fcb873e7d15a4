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
	registerList[RulesInput[R]](s, api, plural, summary, shelf.Feed(), pastShelf(s, shelf))

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
	registerWrites(s, api, shelf, singular, etag, Operator)
}
