package gcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"google.golang.org/api/googleapi"
	"google.golang.org/protobuf/proto"
)

// reason is why a read failed: a closed set, since it is a label.
type reason string

const (
	throttled   reason = "throttled"   // a quota is exceeded
	credentials reason = "credentials" // none, expired or refused
	denied      reason = "denied"      // a permission is missing
	missing     reason = "missing"     // what is asked for does not exist
	unreachable reason = "unreachable" // Google could not reach a zone or region
	timeout     reason = "timeout"     // no answer in time
	unavailable reason = "unavailable" // the network, or Google's error
	answer      reason = "answer"      // cannot be read, or is not to be believed
)

var (
	// errResting says that a project's quota was exceeded a moment ago.
	errResting = errors.New("the project rests, its quota was exceeded")
	// errAnswer says that an answer is not to be believed.
	errAnswer = errors.New("the answer is not to be believed")
)

// credentialError says that there is no token to ask with. Its cause is not
// printed as a whole: token endpoints answer with more than one wants in a log.
type credentialError struct{ cause error }

func (e *credentialError) Error() string { return "no access token: " + tokenFault(e.cause) }

func (e *credentialError) Unwrap() error { return e.cause }

// scopeError says that a list came without one of its scopes.
type scopeError struct{ scope string }

func (e *scopeError) Error() string { return "Google could not reach " + e.scope }

// quotaReasons are how Compute Engine and other APIs say that a quota is
// exceeded, with the status 403.
var quotaReasons = []string{"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED"}

// classify says why a read failed.
func classify(err error) reason {
	if _, ok := errors.AsType[*credentialError](err); ok {
		return credentials
	}
	if _, ok := errors.AsType[*scopeError](err); ok {
		return unreachable
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return classifyStatus(e)
	}
	var netErr net.Error
	switch {
	case errors.Is(err, errResting):
		return throttled
	case errors.Is(err, errAnswer), errors.Is(err, proto.Error):
		return answer
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return timeout
	}
	return unavailable
}

func classifyStatus(e *googleapi.Error) reason {
	switch e.Code {
	case http.StatusUnauthorized:
		return credentials
	case http.StatusTooManyRequests:
		return throttled
	case http.StatusForbidden:
		if slices.ContainsFunc(e.Errors, func(i googleapi.ErrorItem) bool { return slices.Contains(quotaReasons, i.Reason) }) {
			return throttled
		}
		return denied
	case http.StatusNotFound:
		return missing
	case http.StatusGatewayTimeout:
		return timeout
	}
	return unavailable
}

// maxMessage bounds what is repeated of somebody else's message.
const maxMessage = 300

// describe is err for people: what was asked, and the answer without its body.
func describe(what string, err error) error {
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		message := e.Message
		if len(message) > maxMessage {
			message = message[:maxMessage] + "..."
		}
		return fmt.Errorf("%s: %s: %w", what, classify(err), &statusError{status: e.Code, message: message, cause: err})
	}
	return fmt.Errorf("%s: %s: %w", what, classify(err), err)
}

// statusError is an answer other than 200, in short.
type statusError struct {
	status  int
	message string
	cause   error
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %q", e.status, e.message) }

func (e *statusError) Unwrap() error { return e.cause }
