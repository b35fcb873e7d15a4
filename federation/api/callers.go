package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

type callersInput struct {
	Service string `query:"service" maxLength:"253" doc:"Callers of this service only: name.namespace."`
	Since   string `query:"since" maxLength:"32" doc:"How far back: a duration such as 15m, at most and by default 1h."`
}

// query checks every parameter and reports all that is wrong.
func (in *callersInput) query() (service catalog.ServiceName, since time.Duration, err error) {
	var found joined
	if in.Service != "" {
		if service, err = catalog.ParseServiceName(in.Service); err != nil {
			found = append(found, &catalog.FieldError{Field: "service", Value: in.Service, Rule: err.Error()})
		}
	}
	since = resource.MaxCallersWindow
	if in.Since != "" {
		since, err = time.ParseDuration(in.Since)
		if err != nil || since <= 0 || since > resource.MaxCallersWindow {
			found = append(found, &catalog.FieldError{
				Field: "since", Value: in.Since, Rule: fmt.Sprintf("must be a duration above 0 and at most %v, such as 15m", resource.MaxCallersWindow),
			})
		}
	}
	if len(found) > 0 {
		return service, since, found
	}
	return service, since, nil
}

func (s *Server) registerCallers(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-callers", Method: http.MethodGet, Path: "/v1/callers",
		Summary: "Who was seen to call what lately, and by which rule it was allowed or denied.", Tags: []string{"callers"},
		Errors: []int{http.StatusUnauthorized},
	}, func(_ context.Context, in *callersInput) (*itemOutput[resource.Callers], error) {
		service, since, err := in.query()
		if err != nil {
			return nil, answerTo(err, "query")
		}
		out := s.opts.Backend.Callers(service, since)
		out.Total = len(out.Items)
		if out.Total > resource.MaxCallers {
			out.Items = out.Items[:resource.MaxCallers]
		}
		return &itemOutput[resource.Callers]{Body: out}, nil
	})
}
