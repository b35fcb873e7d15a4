package relay

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Judged is r as the conditions of intentions see it, to be made after Strip. Its path
// is the one that the next hop is sent.
func Judged(r *http.Request) *policy.HTTPRequest {
	path := r.URL.EscapedPath()
	if r.URL.Opaque != "" {
		path = r.URL.Opaque // no path at all, and forwarded as it is
	}
	judged := policy.NewHTTPRequest(r.Method, path, forwarded(r.Header))
	return &judged
}

// forwarded is h without the fields that its Connection field names: they end here,
// and a condition that they met would be met by nothing that the service sees. It
// is h itself where there are none.
func forwarded(h http.Header) http.Header {
	out := h
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if _, there := out[name]; !there || slices.Contains(hopByHop[:], name) {
				continue
			}
			if len(out) == len(h) {
				out = maps.Clone(h)
			}
			delete(out, name)
		}
	}
	return out
}
