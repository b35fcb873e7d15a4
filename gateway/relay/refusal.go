package relay

import (
	"net/http"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// grpcResourceExhausted is the gRPC status RESOURCE_EXHAUSTED.
const grpcResourceExhausted = "8"

// Refusal reports whether an answer says that the service is too busy for the call,
// and after which time to come again; 0 if it does not say. A gRPC answer says so in
// its header where it has nothing else.
func Refusal(resp *http.Response) (after time.Duration, refused bool) {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		refused = true
	case http.StatusOK:
		refused = resp.Header.Get("Grpc-Status") == grpcResourceExhausted
	default:
		return 0, false
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		after = min(time.Duration(min(s, 1<<20))*time.Second, route.MaxRefusal)
	}
	if ms, err := strconv.Atoi(resp.Header.Get("Grpc-Retry-Pushback-Ms")); err == nil && ms > 0 {
		after = min(max(after, time.Duration(min(ms, 1<<30))*time.Millisecond), route.MaxRefusal)
	}
	return after, refused
}

// headerBytes is what a request is taken to have besides its body.
const headerBytes = 512

// Size is the size of a request in bytes, 0 if it does not say.
func Size(r *http.Request) int64 {
	if r.ContentLength < 0 {
		return 0
	}
	return r.ContentLength + headerBytes
}
