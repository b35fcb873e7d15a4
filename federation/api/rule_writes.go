package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

type ruleCreateInput[R any] struct {
	DryRun bool `query:"dry_run" doc:"Check everything, write nothing; answers 200 with what would be stored and what would change for whom."`
	Window int  `query:"window" minimum:"1" maximum:"60" default:"60" doc:"With dry_run: how many minutes back callers count that were seen."`
	Body   ruleBody[R]
}

type ruleReplaceInput[R any] struct {
	Name    string `path:"name" maxLength:"253"`
	IfMatch string `header:"If-Match" doc:"The etag that was read, or *."`
	DryRun  bool   `query:"dry_run" doc:"Check everything, write nothing; answers 200 with what would be stored and what would change for whom."`
	Window  int    `query:"window" minimum:"1" maximum:"60" default:"60" doc:"With dry_run: how many minutes back callers count that were seen."`
	Body    ruleBody[R]
}

type ruleDeleteInput struct {
	Name    string `path:"name" maxLength:"253"`
	IfMatch string `header:"If-Match" doc:"Delete this version only."`
	DryRun  bool   `query:"dry_run" doc:"Check everything, write nothing; answers 200 with what would change for whom."`
	Window  int    `query:"window" minimum:"1" maximum:"60" default:"60" doc:"With dry_run: how many minutes back callers count that were seen."`
}

// writeOutput answers a write: the rule as it is stored, or for a dry run a
// resource.DryRun.
type writeOutput struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     any
}

// wouldBe answers a dry run.
func wouldBe[R any](ctx context.Context, s *Server, item *R, etag string, o rulebook.Outlook) (*writeOutput, error) {
	would, err := s.opts.Backend.Would(ctx, o)
	if err != nil {
		return nil, answerTo(err, "body")
	}
	return &writeOutput{Status: http.StatusOK, ETag: etag, Body: resource.DryRun[R]{Item: item, Would: would}}, nil
}

// within lets callers count that were seen in the last minutes.
func within(o rulebook.Outlook, minutes int) rulebook.Outlook {
	o.Window = time.Duration(minutes) * time.Minute
	return o
}

// answers documents the success of a write of R: status is that of one that is
// made, 200 that of a dry run.
func answers[R any](api huma.API, status string, body bool) map[string]*huma.Response {
	schemas := api.OpenAPI().Components.Schemas
	rule := schemas.Schema(reflect.TypeFor[R](), true, "")
	dry := schemas.Schema(reflect.TypeFor[resource.DryRun[R]](), true, "")
	of := func(text string, schema *huma.Schema) *huma.Response {
		return &huma.Response{Description: text, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	}
	const dryRun = "With dry_run=true: what would be stored, and what would change for whom."
	switch {
	case !body:
		return map[string]*huma.Response{"200": of(dryRun, dry)}
	case status == "200":
		return map[string]*huma.Response{"200": of("The rule as it is stored. "+dryRun, &huma.Schema{AnyOf: []*huma.Schema{rule, dry}})}
	default:
		return map[string]*huma.Response{status: of("The rule as it is stored.", rule), "200": of(dryRun, dry)}
	}
}

// registerWrites serves the writes of one kind of rule, for those who have the
// role.
func registerWrites[R any](s *Server, api huma.API, shelf *rulebook.Shelf[R], singular string, etag func(R) string, role Role) {
	plural := shelf.Name()
	one := "/v1/" + plural + "/{name}"
	huma.Register(api, huma.Operation{
		OperationID: "create-" + singular, Method: http.MethodPost, Path: "/v1/" + plural,
		Summary: "Create a rule.", Tags: []string{plural}, Metadata: needs(role), DefaultStatus: http.StatusCreated,
		Responses: answers[R](api, "201", true),
		Errors: []int{
			http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		},
	}, func(ctx context.Context, in *ruleCreateInput[R]) (*writeOutput, error) {
		rule, err := in.Body.decode()
		if err != nil {
			return nil, answerTo(err, "body")
		}
		made, err := shelf.Create(ctx, rule, in.DryRun)
		if err != nil {
			return nil, answerTo(err, "body")
		}
		if in.DryRun {
			return wouldBe(ctx, s, &made, etag(made), within(shelf.With(made), in.Window))
		}
		return &writeOutput{
			Status: http.StatusCreated, ETag: etag(made), Location: "/v1/" + plural + "/" + shelf.NameOf(made), Body: made,
		}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "replace-" + singular, Method: http.MethodPut, Path: one,
		Summary: "Replace a rule that was read, under If-Match.", Tags: []string{plural}, Metadata: needs(role),
		Responses: answers[R](api, "200", true),
		Errors: []int{
			http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusPreconditionRequired, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		},
	}, func(ctx context.Context, in *ruleReplaceInput[R]) (*writeOutput, error) {
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
		if in.DryRun {
			return wouldBe(ctx, s, &put, etag(put), within(shelf.With(put), in.Window))
		}
		return &writeOutput{Status: http.StatusOK, ETag: etag(put), Body: put}, nil
	})

	huma.Register(api, huma.Operation{
		OperationID: "delete-" + singular, Method: http.MethodDelete, Path: one,
		Summary: "Delete a rule.", Tags: []string{plural}, Metadata: needs(role), DefaultStatus: http.StatusNoContent,
		Responses: answers[R](api, "204", false),
		Errors:    []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *ruleDeleteInput) (*writeOutput, error) {
		pre, err := precondition(in.IfMatch)
		if err != nil {
			return nil, err
		}
		have, ok := shelf.Feed().Get(in.Name)
		if ok {
			changes(ctx, etag(have))
		}
		if err := shelf.Delete(ctx, in.Name, pre, in.DryRun); err != nil {
			return nil, answerTo(err, "body")
		}
		if in.DryRun {
			return wouldBe[R](ctx, s, nil, etag(have), within(shelf.Without(in.Name), in.Window))
		}
		return &writeOutput{Status: http.StatusNoContent}, nil
	})
}
