package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/audit"
)

type auditInput struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most entries of a page."`
	Cursor    string `query:"cursor" maxLength:"256" doc:"next_cursor of the page before."`
	Principal string `query:"principal" maxLength:"2304" doc:"Entries of this principal only."`
	Operation string `query:"operation" maxLength:"128" doc:"Entries of this operation only, such as create-export."`
	RequestID string `query:"request_id" maxLength:"64" doc:"Entries of this request only."`
	Resource  string `query:"resource" maxLength:"2304" doc:"Entries of this path only, such as /v1/exports/shop."`
	Phase     string `query:"phase" enum:"attempt,outcome,refused,repaired,damaged" doc:"Entries of this phase only."`
}

func (in *auditInput) keep(e *audit.Entry) bool {
	return (in.Principal == "" || e.Principal == in.Principal) && (in.Operation == "" || e.Operation == in.Operation) &&
		(in.RequestID == "" || e.RequestID == in.RequestID) && (in.Resource == "" || e.Resource == in.Resource) &&
		(in.Phase == "" || string(e.Phase) == in.Phase)
}

// registerAudit serves the audit log to admins.
func (s *Server) registerAudit(api huma.API) {
	failed := func(err error) error {
		if errors.Is(err, audit.ErrPosition) {
			return problem(http.StatusGone, CodeExpired, err.Error())
		}
		return problem(http.StatusServiceUnavailable, CodeAuditUnavailable, err.Error())
	}
	huma.Register(api, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Metadata: needs(Admin),
		Summary: "The audit log, newest first: who changed what, from where, and what came of it.", Tags: []string{"audit"},
		Errors: []int{http.StatusGone, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *auditInput) (*itemOutput[resource.AuditPage], error) {
		page := resource.AuditPage{Items: []resource.AuditEntry{}}
		if s.opts.Audit == nil {
			return &itemOutput[resource.AuditPage]{Body: page}, nil
		}
		from, err := decodePosition(in.Cursor)
		if err != nil {
			return nil, answerTo(&catalog.FieldError{Field: "cursor", Value: in.Cursor, Rule: err.Error()}, "query")
		}
		entries, next, err := s.opts.Audit.Page(ctx, from, in.Limit, in.keep)
		if err != nil {
			return nil, failed(err)
		}
		page.Items = append(page.Items, entries...)
		if next != (audit.Position{}) {
			page.NextCursor = encodePosition(next)
		}
		return &itemOutput[resource.AuditPage]{Body: page}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "verify-audit", Method: http.MethodGet, Path: "/v1/audit/verify", Metadata: needs(Admin),
		Summary: "Check every entry of the audit log and the chain between them.", Tags: []string{"audit"},
		Errors: []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*itemOutput[resource.AuditReport], error) {
		if s.opts.Audit == nil {
			return &itemOutput[resource.AuditReport]{Body: resource.AuditReport{Intact: true}}, nil
		}
		report, err := s.opts.Audit.Verify(ctx)
		if err != nil {
			return nil, failed(err)
		}
		return &itemOutput[resource.AuditReport]{Body: *report}, nil
	})
}

// encodePosition makes a cursor of a place in the log; clients must not learn to
// make one.
func encodePosition(p audit.Position) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "a%d:%d", p.File, p.Offset))
}

func decodePosition(cursor string) (p audit.Position, err error) {
	if cursor == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return p, errCursor
	}
	if _, err := fmt.Sscanf(string(raw), "a%d:%d", &p.File, &p.Offset); err != nil || encodePosition(p) != cursor {
		return audit.Position{}, errCursor
	}
	return p, nil
}
