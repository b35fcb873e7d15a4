package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

type simulateInput struct {
	Body resource.SimulateRequest
}

// recordingOutput is JSON of its own: tables and reports as gateways have them.
type recordingOutput struct {
	Body json.RawMessage `doc:"What isthmus simulate --from reads: tables, evidence and demand of the own gateways."`
}

func (s *Server) registerSimulate(api huma.API) {
	b := s.opts.Backend
	huma.Register(api, huma.Operation{
		OperationID: "simulate", Method: http.MethodPost, Path: "/v1/simulate",
		Summary: "What would become of the calls of the own callers if clusters, regions or clouds died, lost capacity, or other traffic policies held. It changes nothing.",
		Tags:    []string{"explain"}, Metadata: needs(Viewer), DefaultStatus: http.StatusOK,
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *simulateInput) (*itemOutput[resource.Simulation], error) {
		change, err := simulate.ChangeOf(&in.Body)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		out, err := b.Simulate(ctx, change)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		return &itemOutput[resource.Simulation]{Body: *out}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "get-recording", Method: http.MethodGet, Path: "/v1/recording",
		Summary: "What a simulation starts from, to be kept and simulated with later.",
		Tags:    []string{"explain"}, Metadata: needs(Operator),
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}, func(context.Context, *struct{}) (*recordingOutput, error) {
		rec, err := b.Recording()
		if err != nil {
			return nil, answerTo(err, "query")
		}
		body, err := json.Marshal(rec)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		return &recordingOutput{Body: body}, nil
	})
}
