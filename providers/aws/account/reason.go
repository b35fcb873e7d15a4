package account

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// The reasons of failures: a closed set, since they are a label of a metric.
const (
	Throttled    = "throttled"    // AWS or the retry budget says: less
	Credentials  = "credentials"  // none, expired or not known
	Denied       = "denied"       // a permission is missing
	Clock        = "clock"        // the clocks differ too much
	Timeout      = "timeout"      // no answer in time
	Network      = "network"      // no connection, or one that broke
	Server       = "server"       // AWS failed
	Answer       = "answer"       // an answer that is not to be trusted
	Inconsistent = "inconsistent" // answers that contradict each other
	Missing      = "missing"      // what the configuration names does not exist
	Refused      = "refused"      // any other answer of an error
)

// Reasons are all of them.
func Reasons() []string {
	return []string{Throttled, Credentials, Denied, Clock, Timeout, Network, Server, Answer, Inconsistent, Missing, Refused}
}

// credentialsError says that credentials could not be had at all.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// codes of the APIs, in each one's spelling.
var codes = map[string]string{
	"ExpiredToken": Credentials, "ExpiredTokenException": Credentials, "RequestExpired": Credentials,
	"InvalidClientTokenId": Credentials, "UnrecognizedClientException": Credentials, "AuthFailure": Credentials,
	"InvalidToken": Credentials, "InvalidAccessKeyId": Credentials, "MissingAuthenticationToken": Credentials,
	"MissingAuthenticationTokenException": Credentials, "IncompleteSignature": Credentials,
	"InvalidSignatureException": Credentials, "SignatureDoesNotMatch": Credentials,
	"AccessDenied": Denied, "AccessDeniedException": Denied, "UnauthorizedOperation": Denied,
	"OptInRequired": Denied, "NotAuthorized": Denied,
	"RequestTimeTooSkewed": Clock, "RequestInTheFuture": Clock,
	"NamespaceNotFound": Missing, "ServiceNotFound": Missing, "ClusterNotFoundException": Missing,
	"TargetGroupNotFound": Missing, "TargetGroupNotFoundException": Missing,
}

// Reason names the kind of a failure.
func Reason(err error) string {
	switch {
	case errors.Is(err, unit.ErrInconsistent):
		return Inconsistent
	case errors.Is(err, unit.ErrMissing):
		return Missing
	case errors.Is(err, unit.ErrAnswer), errors.Is(err, ErrEmpty), errors.Is(err, errTooLong):
		return Answer
	}
	if slices.ContainsFunc(retry.DefaultThrottles, func(t retry.IsErrorThrottle) bool { return t.IsErrorThrottle(err) == aws.TrueTernary }) {
		return Throttled
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if reason, known := codes[api.ErrorCode()]; known {
			return reason
		}
	}
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return Credentials
	}
	return transportReason(err)
}

// transportReason is for errors that AWS did not name.
func transportReason(err error) string {
	if n, ok := errors.AsType[net.Error](err); (ok && n.Timeout()) || errors.Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return Network
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Network // cut off
		}
		return Answer
	}
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok && resp.HTTPStatusCode() >= 500 {
		return Server
	}
	if _, ok := errors.AsType[smithy.APIError](err); ok {
		return Refused
	}
	return credentialsOr(err)
}

// credentialsOr: the SDK says only in words that its chain found no credentials,
// before any request of the call is sent; everything else was sorted out above.
func credentialsOr(err error) string {
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		return Credentials
	}
	return Refused
}
