package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Drills is what the API asks of drills; the federation is one.
type Drills interface {
	// StartDrill orders a drill. A dry run changes nothing and says what is predicted.
	// The error wraps ErrDrillRuns, holds *catalog.FieldErrors or is a *ExplainError.
	StartDrill(ctx context.Context, r *resource.DrillRequest, dryRun bool) (*resource.Drill, error)
	// StopDrill ends one; one that is over is answered as it is.
	StopDrill(ctx context.Context, id string) (*resource.Drill, error)
	Drill(ctx context.Context, id string) (*resource.Drill, error)
	Drills(ctx context.Context) (resource.Drills, error)
}

// ErrDrillRuns means that a drill is under way: there is one at a time.
var ErrDrillRuns = errors.New("a drill is under way, and there is one at a time")

type drillInput struct {
	DryRun bool `query:"dry_run" doc:"Drill nothing; answers what is predicted, as simulate does."`
	Body   resource.DrillRequest
}

// drillOutput answers an order: 201, or 200 to a dry run.
type drillOutput struct {
	Status int
	Body   resource.Drill
}

type drillIDInput struct {
	ID string `path:"id" pattern:"^[0-9a-z-]{1,64}$" maxLength:"64" doc:"ID of the drill."`
}

func (s *Server) registerDrills(api huma.API) {
	b := s.opts.Backend
	tags := []string{"drills"}
	huma.Register(api, huma.Operation{
		OperationID: "create-drill", Method: http.MethodPost, Path: "/v1/drills",
		Summary: "Route a share of real calls as if clusters, regions, clouds or zones were lost, for a time, with automatic abort.", Tags: tags,
		DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{"200": {
			Description: "With dry_run=true: what is predicted.",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[resource.Drill](), true, "")}},
		}},
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType, http.StatusServiceUnavailable,
		},
	}, func(ctx context.Context, in *drillInput) (*drillOutput, error) {
		d, err := b.StartDrill(ctx, &in.Body, in.DryRun)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		out := &drillOutput{Status: http.StatusCreated, Body: *d}
		if in.DryRun {
			out.Status = http.StatusOK
		}
		return out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "list-drills", Method: http.MethodGet, Path: "/v1/drills",
		Summary: "Drills, the youngest first: what was predicted and what was observed.", Tags: tags,
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*itemOutput[resource.Drills], error) {
		out, err := b.Drills(ctx)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		return &itemOutput[resource.Drills]{Body: out}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "get-drill", Method: http.MethodGet, Path: "/v1/drills/{id}",
		Summary: "One drill, as it stands.", Tags: tags,
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *drillIDInput) (*itemOutput[resource.Drill], error) {
		return drillAnswer("path")(b.Drill(ctx, in.ID))
	})
	huma.Register(api, huma.Operation{
		OperationID: "stop-drill", Method: http.MethodDelete, Path: "/v1/drills/{id}",
		Summary: "Stop a drill at once; its report is kept.", Tags: tags, DefaultStatus: http.StatusOK,
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *drillIDInput) (*itemOutput[resource.Drill], error) {
		return drillAnswer("path")(b.StopDrill(ctx, in.ID))
	})
}

func drillAnswer(location string) func(*resource.Drill, error) (*itemOutput[resource.Drill], error) {
	return func(d *resource.Drill, err error) (*itemOutput[resource.Drill], error) {
		if err != nil {
			return nil, answerTo(err, location)
		}
		return &itemOutput[resource.Drill]{Body: *d}, nil
	}
}
