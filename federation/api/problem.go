package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Code is the last part of a problem's type: the closed vocabulary that programs
// branch on. README.md explains each.
type Code string

// The codes.
const (
	CodeInvalid        Code = "invalid"
	CodeUnauthorized   Code = "unauthorized"
	CodeForbidden      Code = "forbidden"
	CodeRateLimited    Code = "rate-limited"
	CodeForbiddenHost  Code = "forbidden-host"
	CodeCrossOrigin    Code = "cross-origin"
	CodeNotFound       Code = "not-found"
	CodeMethod         Code = "method-not-allowed"
	CodeExists         Code = "exists"
	CodeConfigOwned    Code = "config-owned"
	CodeFull           Code = "full"
	CodeExpired        Code = "revision-expired"
	CodeChanged        Code = "etag-mismatch"
	CodeETagRequired   Code = "etag-required"
	CodeMediaType      Code = "media-type"
	CodeTooLarge       Code = "too-large"
	CodeTooManyWatches Code = "too-many-watches"
	CodeNotWritable    Code = "store-not-writable"
	CodeNotReadable    Code = "store-not-readable"
	CodeInternal       Code = "internal"
	// CodeAuditUnavailable: a change that cannot be audited is not made.
	CodeAuditUnavailable Code = "audit-unavailable"
	// CodeIdempotencyMismatch, CodeIdempotencyBusy: the key was used for another
	// request, or is being used.
	CodeIdempotencyMismatch Code = "idempotency-mismatch"
	CodeIdempotencyBusy     Code = "idempotency-busy"
	// CodeIssuerUnavailable: a token cannot be judged, since its issuer's keys are
	// not known.
	CodeIssuerUnavailable Code = "issuer-unavailable"
	// CodeDrillRuns: there is one drill at a time.
	CodeDrillRuns Code = "drill-runs"
)

// problem is an error with its answer.
func problem(status int, code Code, detail string, fields ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{
		Type: resource.ProblemPrefix + string(code), Title: http.StatusText(status), Status: status,
		Detail: detail, Errors: fields,
	}
}

// codeOf gives the problems that huma makes by itself (validation) a type.
func codeOf(status int) Code {
	switch status {
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusUnsupportedMediaType:
		return CodeMediaType
	case http.StatusRequestEntityTooLarge:
		return CodeTooLarge
	default:
		if status >= http.StatusInternalServerError {
			return CodeInternal
		}
		return CodeInvalid
	}
}

// typed is a huma transformer: every problem leaves with a type.
func typed(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok && m.Type == "" {
		m.Type = resource.ProblemPrefix + string(codeOf(m.Status))
	}
	return v, nil
}

// answerTo turns an error of rulebook, store, feed or Backend into a problem.
// location is where field errors are ("body").
func answerTo(err error, location string) error {
	if m, ok := errors.AsType[*huma.ErrorModel](err); ok {
		return m // an answer already
	}
	if fields := fieldErrors(err, location); len(fields) > 0 {
		return problem(http.StatusUnprocessableEntity, CodeInvalid, "validation failed", fields...)
	}
	for _, a := range []struct {
		err    error
		status int
		code   Code
	}{
		{rulebook.ErrConfigOwned, http.StatusConflict, CodeConfigOwned},
		{rulebook.ErrExists, http.StatusConflict, CodeExists},
		{rulebook.ErrFull, http.StatusConflict, CodeFull},
		{rulebook.ErrChanged, http.StatusPreconditionFailed, CodeChanged},
		{rulebook.ErrPreconditionRequired, http.StatusPreconditionRequired, CodeETagRequired},
		{store.ErrNotFound, http.StatusNotFound, CodeNotFound},
		{history.ErrFuture, http.StatusNotFound, CodeNotFound},
		{history.ErrCompacted, http.StatusGone, CodeExpired},
		{ErrDrillRuns, http.StatusConflict, CodeDrillRuns},
		{ErrUnknownSource, http.StatusNotFound, CodeNotFound},
		{store.ErrNotWritable, http.StatusServiceUnavailable, CodeNotWritable},
		{store.ErrTooLarge, http.StatusRequestEntityTooLarge, CodeTooLarge},
		{feed.ErrGone, http.StatusGone, CodeExpired},
	} {
		if errors.Is(err, a.err) {
			return problem(a.status, a.code, err.Error())
		}
	}
	if ee, ok := errors.AsType[*ExplainError](err); ok {
		status := http.StatusNotFound
		if ee.Reason == PeerUnreachable || ee.Reason == NoGateway {
			status = http.StatusServiceUnavailable
		}
		return problem(status, Code(ee.Reason), err.Error())
	}
	return problem(http.StatusInternalServerError, CodeInternal, err.Error())
}

// fieldErrors collects the *catalog.FieldErrors of a joined error.
func fieldErrors(err error, location string) []*huma.ErrorDetail {
	var out []*huma.ErrorDetail
	switch e := err.(type) { //nolint:errorlint // the tree is walked, each node for itself
	case nil:
	case *catalog.FieldError:
		out = append(out, &huma.ErrorDetail{Location: join(location, e.Field), Message: e.Rule, Value: e.Value})
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out = append(out, fieldErrors(inner, location)...)
		}
	case interface{ Unwrap() error }:
		out = fieldErrors(e.Unwrap(), location)
	}
	return out
}

func join(location, field string) string {
	if field == "" {
		return location
	}
	return location + "." + field
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, status int, code Code, format string, args ...any) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem(status, code, fmt.Sprintf(format, args...)))
}
