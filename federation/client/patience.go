package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxAttempts bounds how often a request is made that was told to come later.
	maxAttempts = 5
	// maxPatience is the longest wait that is worth it within requestTimeout.
	maxPatience = 5 * time.Second
)

// patience is how long the server wants a request to wait that it has not
// looked at.
func patience(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
	wait := time.Duration(seconds) * time.Second
	return wait, err == nil && wait <= maxPatience
}

// pause waits, or returns why it was ended.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
