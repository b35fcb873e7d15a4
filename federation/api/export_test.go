package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// CheckAnswer checks the JSON answer of an operation against the document.
func (s *Server) CheckAnswer(path string, answer []byte) ([]error, error) {
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		return nil, err
	}
	schema := s.document.Paths[path].Get.Responses["200"].Content["application/json"].Schema
	res := new(huma.ValidateResult)
	huma.Validate(s.document.Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
	return res.Errors, nil
}

// EncodeCursor and DecodeCursor are the form of cursors.
var (
	EncodeCursor = encodeCursor
	DecodeCursor = decodeCursor
)

// DecodeRule decodes a rule as a handler does.
func DecodeRule[R any](data []byte) (R, error) {
	b := ruleBody[R]{raw: data}
	return b.decode()
}

// FieldErrors are the locations of what is wrong.
func FieldErrors(err error) (locations []string) {
	for _, d := range fieldErrors(err, "body") {
		locations = append(locations, d.Location)
	}
	return locations
}

// MaxPrincipals bounds the buckets.
const MaxPrincipals = maxPrincipals

// Limiter is the token buckets of principals.
type Limiter struct{ l *limiter }

// NewLimiter makes one.
func NewLimiter(c RateConfig, now func() time.Time) Limiter { return Limiter{newLimiter(c, now)} }

// Take takes one request of a principal over mTLS.
func (l Limiter) Take(name string) bool {
	_, ok := l.l.take(Principal{Name: name, Way: MTLS})
	return ok
}

// Tracked counts the buckets.
func (l Limiter) Tracked() int { return l.l.tracked() }

// Who authenticates a request.
func (s *Server) Who(way Way, r *http.Request) Principal {
	p, _, _ := s.auth.who(way, r)
	return p
}

// Operation is one operation of the document.
type Operation struct {
	ID, Method, Path string
	Role             Role
}

// Operations are all, by id.
func (s *Server) Operations() []Operation {
	var out []Operation
	for _, op := range s.operations {
		out = append(out, Operation{op.OperationID, op.Method, op.Path, roleOf(op)})
	}
	slices.SortFunc(out, func(a, b Operation) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// MaxAnswers bounds what idempotency keys keep.
const MaxAnswers = maxAnswers

// Idempotency keeps answers.
type Idempotency struct{ i *idempotency }

// NewIdempotency makes one.
func NewIdempotency(a Answers, now func() time.Time) Idempotency {
	return Idempotency{newIdempotency(a, slog.New(slog.DiscardHandler), now)}
}

// Keep keeps an answer under a name.
func (i Idempotency) Keep(ctx context.Context, name string) {
	i.i.keep(ctx, name, &answer{At: i.i.now()})
}

// HurryDuplicates shortens how long a duplicate waits for the first.
func (s *Server) HurryDuplicates(d time.Duration) { s.idempotency.wait = d }
