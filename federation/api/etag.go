package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

func etagExport(r resource.Export) string         { return r.ETag }
func etagImport(r resource.Import) string         { return r.ETag }
func etagIntention(r resource.Intention) string   { return r.ETag }
func etagTraffic(r resource.TrafficPolicy) string { return r.ETag }

// precondition reads If-Match; the error is a problem.
func precondition(header string) (rulebook.Precondition, error) {
	p, err := rulebook.ParseIfMatch(header)
	if err != nil {
		return p, problem(http.StatusUnprocessableEntity, CodeInvalid, "validation failed",
			&huma.ErrorDetail{Location: "header.If-Match", Message: err.Error(), Value: header})
	}
	return p, nil
}

// notModified is the answer to an If-None-Match that holds.
func notModified(etag string) error {
	return huma.ErrorWithHeaders(huma.Status304NotModified(), http.Header{"ETag": {etag}})
}
