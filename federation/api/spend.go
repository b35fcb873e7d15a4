package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

type spendInput struct {
	Service string `query:"service" maxLength:"253" doc:"This service only: name.namespace."`
}

func (s *Server) registerSpend(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-spend", Method: http.MethodGet, Path: "/v1/spend",
		Summary: "What the traffic of the own callers costs this month by the price book, by service and serving cluster, what the month is going to cost, and how budgets stand.",
		Tags:    []string{"services"}, Metadata: needs(Viewer),
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized},
	}, func(_ context.Context, in *spendInput) (*itemOutput[resource.Spend], error) {
		var service catalog.ServiceName
		if in.Service != "" {
			var err error
			if service, err = catalog.ParseServiceName(in.Service); err != nil {
				return nil, answerTo(&catalog.FieldError{Field: "service", Value: in.Service, Rule: err.Error()}, "query")
			}
		}
		return &itemOutput[resource.Spend]{Body: s.opts.Backend.Spend(service)}, nil
	})
}
