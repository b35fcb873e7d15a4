package account

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// ErrEmpty says that an answer of success had no body. The SDK takes it for an
// answer that lists nothing.
var ErrEmpty = errors.New("the answer has no body")

// errTooLong says that an answer is larger than any true one.
var errTooLong = fmt.Errorf("the answer has more than %d bytes", maxAnswer)

// maxAnswer bounds one answer: pages have at most a thousand items of some
// kilobytes.
const maxAnswer = 64 << 20

// guard adds to a client's calls what this package promises of them.
func (a *Account) guard(r *region) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return errors.Join(
			stack.Initialize.Add(middleware.InitializeMiddlewareFunc("isthmusHostPrefix", a.hostPrefix), middleware.Before),
			// After "Retry": each attempt waits for the limiter, and is told.
			stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("isthmusAttempt", a.attempt(r)), "Retry", middleware.After),
			stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("isthmusBody", checkBody), middleware.After),
		)
	}
}

// hostPrefix keeps "data-" (Cloud Map's DiscoverInstances) from being put before
// the host of an endpoint that the configuration names. The SDK forgets a flag that
// its caller sets, so it is set within the call.
func (a *Account) hostPrefix(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	if a.opts.Config.Endpoint != "" {
		ctx = smithyhttp.DisableEndpointHostPrefix(ctx, true)
	}
	return next.HandleInitialize(ctx, in)
}

func (a *Account) attempt(r *region) func(context.Context, middleware.FinalizeInput, middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	return func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		limiter, operation := r.control, awsmiddleware.GetOperationName(ctx)
		if strings.HasPrefix(operation, "DiscoverInstances") {
			limiter = r.discover
		}
		if err := limiter.Wait(ctx); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("wait for the rate of calls: %w", err)
		}
		out, meta, err := next.HandleFinalize(ctx, in)
		if a.opts.Observe != nil {
			a.opts.Observe(Call{Region: r.name, Service: awsmiddleware.GetServiceID(ctx), Operation: operation, Err: err})
		}
		return out, meta, err
	}
}

// checkBody looks at the raw answer before the SDK decodes it.
func checkBody(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, meta, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, meta, err
	}
	resp, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || resp.Body == nil {
		return out, meta, nil
	}
	body := bufio.NewReader(&bounded{r: resp.Body, left: maxAnswer})
	if resp.StatusCode < 300 {
		if _, err := body.Peek(1); errors.Is(err, io.EOF) {
			_ = resp.Body.Close() // nothing is in it
			return out, meta, ErrEmpty
		}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return out, meta, nil
}

// bounded fails where io.LimitReader would end, which a decoder takes for the end
// of an answer.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
