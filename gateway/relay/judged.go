package relay

import (
	"net/http"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Judged is r as the conditions of intentions see it, to be made after Strip. Its path
// is the one that the next hop is sent.
func Judged(r *http.Request) *policy.HTTPRequest {
	path := r.URL.EscapedPath()
	if r.URL.Opaque != "" {
		path = r.URL.Opaque // no path at all, and forwarded as it is
	}
	judged := policy.NewHTTPRequest(r.Method, path, r.Header)
	return &judged
}
