package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// client asks one server.
type client struct {
	endpoint string
	http     *http.Client
}

func newClient(endpoint string) *client {
	return &client{strings.TrimSuffix(endpoint, "/"), &http.Client{
		Timeout: attemptTimeout,
		// No proxy: the address means this machine's server only here. No redirect:
		// these servers have none.
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// statusError is an answer other than 200.
type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.path, e.status, http.StatusText(e.status))
}

// ask returns the text at a path, and the answer's header.
func (c *client) ask(ctx context.Context, method, path string, header map[string]string) (string, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, nil)
	if err != nil {
		return "", nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", nil, errors.Join(ErrNone, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
		return "", nil, errors.Join(ErrNone, &statusError{path, resp.StatusCode}) // it may be up soon
	case resp.StatusCode != http.StatusOK:
		return "", nil, &statusError{path, resp.StatusCode}
	case err != nil:
		return "", nil, errors.Join(ErrNone, err)
	case len(body) > maxAnswer:
		return "", nil, fmt.Errorf("%s answers more than %d bytes", path, maxAnswer)
	}
	return strings.TrimSpace(string(body)), resp.Header, nil
}
