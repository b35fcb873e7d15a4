package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

type callsInput struct {
	Trace   string `query:"trace" pattern:"^[0-9a-f]{32}$" doc:"The trace ID of a W3C traceparent."`
	Request string `query:"request" maxLength:"128" pattern:"^[A-Za-z0-9._~:=+/@-]+$" doc:"The x-request-id that the answer had."`
	Service string `query:"service" maxLength:"253" doc:"Only calls to this service: name.namespace, or name in the default namespace."`
	Gateway string `query:"gateway" maxLength:"63" doc:"Ask this gateway alone; absent: all of the own cluster."`
	Limit   int    `query:"limit" minimum:"1" maximum:"100" default:"100" doc:"How many, the latest first."`
	Saved   bool   `query:"saved" doc:"Add what each decision had read, so that isthmus explain --replay can repeat it elsewhere."`
}

func (s *Server) registerCalls(api huma.API) {
	b := s.opts.Backend
	huma.Register(api, huma.Operation{
		OperationID: "list-calls", Method: http.MethodGet, Path: "/v1/calls",
		Summary: "Real calls that the own gateways kept, each attempt with the ledger of its decision: those that failed, were tried again or slow, that are traced, and a share of the rest.",
		Tags:    []string{"explain"},
		Errors:  []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *callsInput) (*itemOutput[resource.Calls], error) {
		q := resource.CallQuery{TraceID: in.Trace, RequestID: in.Request, Gateway: in.Gateway, Limit: in.Limit, Saved: in.Saved}
		if in.Service != "" {
			var err error
			if q.Service, err = catalog.ParseServiceName(in.Service); err != nil {
				return nil, answerTo(&catalog.FieldError{Field: "service", Value: in.Service, Rule: err.Error()}, "query")
			}
		}
		calls, err := b.Calls(ctx, q)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		return &itemOutput[resource.Calls]{Body: *calls}, nil
	})
}
