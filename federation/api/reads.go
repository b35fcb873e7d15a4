package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

type explainInput struct {
	Service string `query:"service" required:"true" maxLength:"253" doc:"name.namespace, or name in the default namespace."`
	Port    string `query:"port" maxLength:"63" doc:"A port's name; absent: the only or default one."`
	Pin     string `query:"pin" maxLength:"63" doc:"Only this cluster, as name.namespace.CLUSTER.mesh asks for."`
	From    string `query:"from" maxLength:"63" doc:"Ask this peer's federation, over the links; absent: the own cluster."`
	Gateway string `query:"gateway" maxLength:"63" doc:"By this gateway's evidence; absent: the one with the freshest report."`
}

// query checks every parameter and reports all that is wrong.
func (in *explainInput) query() (resource.ExplainQuery, error) {
	q := resource.ExplainQuery{Port: in.Port, Gateway: in.Gateway}
	var found joined
	check := func(field, value string, err error) {
		if err != nil {
			found = append(found, &catalog.FieldError{Field: field, Value: value, Rule: err.Error()})
		}
	}
	var err error
	q.Service, err = catalog.ParseServiceName(in.Service)
	check("service", in.Service, err)
	if in.Pin != "" {
		q.Pin, err = catalog.ParseClusterName(in.Pin)
		check("pin", in.Pin, err)
	}
	if in.From != "" {
		q.From, err = catalog.ParseClusterName(in.From)
		check("from", in.From, err)
	}
	if len(found) > 0 {
		return q, found
	}
	return q, nil
}

type releaseOutput struct {
	Body struct {
		Source   string `json:"source"`
		Released int    `json:"released" doc:"Withdrawals that took effect."`
	}
}

func (s *Server) registerReads(api huma.API) {
	b := s.opts.Backend
	huma.Register(api, huma.Operation{
		OperationID: "explain", Method: http.MethodGet, Path: "/v1/explain",
		Summary: "Why a call goes where it goes: the ledger of one decision, made now and not taken.", Tags: []string{"explain"},
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *explainInput) (*itemOutput[resource.Explanation], error) {
		q, err := in.query()
		if err != nil {
			return nil, answerTo(err, "query")
		}
		e, err := b.Explain(ctx, q)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		return &itemOutput[resource.Explanation]{Body: *e}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/v1/version",
		Summary: "What runs here.", Tags: []string{"version"},
		Errors: []int{http.StatusUnauthorized},
	}, func(context.Context, *struct{}) (*itemOutput[resource.Version], error) {
		return &itemOutput[resource.Version]{Body: b.Version()}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "get-trust", Method: http.MethodGet, Path: "/v1/trust",
		Summary: "The roots in force, and who would be refused if one of them left.", Tags: []string{"trust"},
		Errors: []int{http.StatusUnauthorized},
	}, func(context.Context, *struct{}) (*itemOutput[resource.Trust], error) {
		return &itemOutput[resource.Trust]{Body: b.Trust()}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "release-source", Method: http.MethodPost, Path: "/v1/sources/{name}/release",
		Summary: "Let the withdrawals through that the guard of a source holds back.", Tags: []string{"sources"},
		DefaultStatus: http.StatusOK,
		Errors:        []int{http.StatusUnauthorized, http.StatusNotFound},
	}, func(ctx context.Context, in *itemInput) (*releaseOutput, error) {
		n, err := b.Release(ctx, in.Name)
		if err != nil {
			return nil, answerTo(err, "path")
		}
		out := &releaseOutput{}
		out.Body.Source, out.Body.Released = in.Name, n
		return out, nil
	})
}
