package relay

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxTimeout bounds what a caller may set; beyond it is as good as none.
const maxTimeout = 24 * time.Hour

// Timeout is what a gRPC call's caller gives it, by the field of gRPC's protocol: at
// most 8 digits and a unit. It is not above a day.
func Timeout(r *http.Request) (time.Duration, bool) {
	value := r.Header.Get("Grpc-Timeout")
	if len(value) < 2 || len(value) > 9 {
		return 0, false
	}
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	unit, ok := units[value[len(value)-1]]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if err != nil || value[0] == '+' {
		return 0, false
	}
	if n > uint64(maxTimeout/unit) {
		return maxTimeout, true
	}
	return time.Duration(n) * unit, true
}

// EndInTime makes a gRPC answer that breaks once ctx's deadline has passed end with
// that status. Handed on as it is, the break would reach the caller as an internal
// error whenever it is faster than the caller's own timer.
func EndInTime(ctx context.Context, answer *http.Response) {
	if deadline, ok := ctx.Deadline(); ok {
		answer.Body = &timedBody{ReadCloser: answer.Body, deadline: deadline, answer: answer}
	}
}

type timedBody struct {
	io.ReadCloser
	deadline time.Time
	answer   *http.Response
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) || time.Now().Before(b.deadline) {
		return n, err
	}
	if b.answer.Trailer == nil {
		b.answer.Trailer = make(http.Header)
	}
	b.answer.Trailer.Set("Grpc-Status", strconv.Itoa(grpcDeadlineExceeded))
	b.answer.Trailer.Set("Grpc-Message", "deadline exceeded")
	return n, io.EOF
}
