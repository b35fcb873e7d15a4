package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/isthmus-mesh/isthmus/federation/audit"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Auditor keeps who changed what; *audit.Log is one.
type Auditor interface {
	Append(e audit.Entry) (audit.Entry, error)
	Page(ctx context.Context, from audit.Position, limit int, keep func(*audit.Entry) bool) ([]audit.Entry, audit.Position, error)
	Verify(ctx context.Context) (*audit.Report, error)
}

// write is one request that changes something, on its way through the gate.
type write struct {
	op        *huma.Operation
	principal Principal
	author    store.Author
	body      []byte
	digest    string // SHA-256 of body, hexadecimal
	// before is the entity tag of what is changed; the handler sets it.
	before string
}

type writeKey struct{}

// changes tells the audit log what a handler is about to change.
func changes(ctx context.Context, etag string) {
	if w, ok := ctx.Value(writeKey{}).(*write); ok {
		w.before = etag
	}
}

// serveWrite passes a write on: once for each idempotency key, and only if it can
// be audited.
func (s *Server) serveWrite(w http.ResponseWriter, r *http.Request, in *write, next http.Handler) {
	var ok bool
	if in.body, ok = readBody(w, r); !ok {
		return
	}
	sum := sha256.Sum256(in.body)
	in.digest = hex.EncodeToString(sum[:])
	r.Body = io.NopCloser(bytes.NewReader(in.body))
	r = r.WithContext(context.WithValue(r.Context(), writeKey{}, in))
	if dryRun(in.op, r) {
		next.ServeHTTP(w, r)
		return
	}
	s.serveOnce(w, r, in, func(w http.ResponseWriter) { s.serveAudited(w, r, in, next) })
}

// dryRunParameter says that a write is not to be made.
const dryRunParameter = "dry_run"

// dryRun reports whether the handler will make nothing of the write. It reads the
// query with huma's own reader: net/url's passes over what is malformed and takes
// a later one ("dry_run=%zz&dry_run=true"), and a change that is a dry run here and
// none there would be audited nowhere.
func dryRun(op *huma.Operation, r *http.Request) bool {
	if !slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == dryRunParameter }) {
		return false
	}
	dry, err := strconv.ParseBool(queryparam.Get(r.URL.RawQuery, dryRunParameter))
	return err == nil && dry
}

// readBody reads a write's body whole; it is at most maxBody.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		return body, true
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		writeProblem(w, http.StatusRequestEntityTooLarge, CodeTooLarge, "the body has more than %d bytes", maxBody)
	} else {
		writeProblem(w, http.StatusBadRequest, CodeInvalid, "the body cannot be read: %v", err)
	}
	return nil, false
}

// serveAudited keeps the attempt, lets it be made, and keeps its outcome.
func (s *Server) serveAudited(w http.ResponseWriter, r *http.Request, in *write, next http.Handler) {
	if s.opts.Audit == nil {
		next.ServeHTTP(w, r)
		return
	}
	e := in.entry(r, audit.Attempt)
	if _, err := s.opts.Audit.Append(e); err != nil {
		s.log.Error("change refused, it cannot be audited", "principal", in.principal.Name, "path", r.URL.Path, "err", err)
		w.Header().Set("Retry-After", "10")
		writeProblem(w, http.StatusServiceUnavailable, CodeAuditUnavailable, "the audit log takes no entries, so nothing is changed: %v", err)
		return
	}
	rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		e.Phase, e.Status, e.Before = audit.Outcome, rec.status, in.before
		if !rec.written { // the handler has given up
			e.Status = http.StatusInternalServerError
		}
		if rec.status < http.StatusMultipleChoices {
			e.After = w.Header().Get("ETag")
		}
		if _, err := s.opts.Audit.Append(e); err != nil {
			// The attempt is kept, and what came of it is in the history; the next
			// change is refused.
			s.log.Error("outcome of a change is not audited", "principal", in.principal.Name, "path", r.URL.Path, "status", e.Status, "err", err)
		}
	}()
	next.ServeHTTP(rec, r)
}

// entry describes the request.
func (in *write) entry(r *http.Request, phase audit.Phase) audit.Entry {
	return audit.Entry{
		Phase: phase, RequestID: in.author.RequestID, Principal: in.principal.Name, Role: in.principal.Role.String(),
		Way: in.principal.Way.String(), From: r.RemoteAddr, Operation: in.op.OperationID, Method: r.Method, Resource: r.URL.Path,
		Body: in.digest, Reason: in.author.Reason,
	}
}

// auditRefusal keeps that somebody tried what he may not. Nothing hangs on it:
// nothing is changed. What one principal is refused more often than refusals is in
// the log and the metrics alone: the log is of a bounded size, and whoever may read
// could push everything that others did out of it.
func (s *Server) auditRefusal(r *http.Request, op *huma.Operation, p Principal, requestID string) {
	if s.opts.Audit == nil {
		return
	}
	if _, ok := s.refusals.take(p); !ok {
		return
	}
	in := &write{op: op, principal: p, author: store.Author{RequestID: requestID}}
	e := in.entry(r, audit.Refused)
	e.Status = http.StatusForbidden
	if _, err := s.opts.Audit.Append(e); err != nil {
		s.log.Warn("refusal is not audited", "principal", p.Name, "path", r.URL.Path, "err", err)
	}
}
