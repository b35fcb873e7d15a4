package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

type capacityInput struct {
	Service string `query:"service" maxLength:"253" doc:"This service only: name.namespace."`
}

func (s *Server) registerCapacity(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-capacity", Method: http.MethodGet, Path: "/v1/capacity",
		Summary: "What each cluster can take of services and carries now, as the own gateways know it: ready, total, in flight, capacity, spare and granted.",
		Tags:    []string{"services"}, Metadata: needs(Viewer),
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized},
	}, func(_ context.Context, in *capacityInput) (*itemOutput[resource.Capacities], error) {
		var service catalog.ServiceName
		if in.Service != "" {
			var err error
			if service, err = catalog.ParseServiceName(in.Service); err != nil {
				return nil, answerTo(&catalog.FieldError{Field: "service", Value: in.Service, Rule: err.Error()}, "query")
			}
		}
		return &itemOutput[resource.Capacities]{Body: s.opts.Backend.Capacities(service)}, nil
	})
}
