package api

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// describeGate writes into the document what the gate does to every operation:
// the role that it needs, how requests are refused before a handler sees them,
// and what every write takes besides its own parameters.
func (s *Server) describeGate(api huma.API) {
	problem := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[huma.ErrorModel](), true, "")
	for _, op := range s.operations {
		if op.Extensions == nil {
			op.Extensions = make(map[string]any)
		}
		op.Extensions["x-isthmus-role"] = roleOf(op).String()
		describe := func(status int, text string) {
			key := strconv.Itoa(status)
			if op.Responses[key] == nil {
				op.Responses[key] = &huma.Response{
					Description: http.StatusText(status),
					Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
				}
			}
			if text != "" {
				op.Responses[key].Description = text
			}
		}
		describe(http.StatusUnauthorized, "Nobody is authenticated, or the token is refused.")
		describe(http.StatusForbidden, "The principal's role does not cover the operation, which needs "+roleOf(op).String()+"; or a browser was led here by another site.")
		describe(http.StatusTooManyRequests, "The principal asks more often than it may; see Retry-After.")
		describe(http.StatusMisdirectedRequest, "On loopback: the Host is no loopback name.")
		describe(http.StatusServiceUnavailable, "")
		describe(http.StatusInternalServerError, "")
		describe(http.StatusUnprocessableEntity, "") // parameters that nobody knows are refused
		if none := op.Responses[strconv.Itoa(http.StatusNoContent)]; none != nil {
			none.Content = nil
		}
		if writes(op) {
			op.Parameters = append(op.Parameters, writeParameters()...)
			describe(http.StatusConflict, "")
			describe(http.StatusRequestEntityTooLarge, "")
			describe(http.StatusBadRequest, "")
		}
	}
}

// writeParameters are those that every write takes.
func writeParameters() []*huma.Param {
	longest := 512 // store.MaxReason
	text := func(doc string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MaxLength: &longest, Description: doc}
	}
	const why = "Why the change is made; kept in the history and in the audit log."
	return []*huma.Param{
		{
			Name: idempotencyHeader, In: "header",
			Description: "Makes the write once: within a day the same request with the same key is answered as the first was, with Idempotency-Replayed: true. Another request with it is 422.",
			Schema:      &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(maxIdempotencyKey)},
		},
		{Name: reasonHeader, In: "header", Description: why, Schema: text(why)},
		{Name: reasonParameter, In: "query", Description: why + " The header goes first.", Schema: text(why)},
	}
}
