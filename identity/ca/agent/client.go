package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// callTimeout bounds one call; asking for news waits up to half of it at the CA.
	callTimeout = time.Minute
	// dialTimeout bounds TCP and TLS.
	dialTimeout = 10 * time.Second
	// maxAnswerHeader bounds the header of an answer.
	maxAnswerHeader = 16 << 10
)

// client speaks hostapi to one CA.
type client struct {
	base string
	http *http.Client
}

func newClient(address string, cfg *tls.Config) *client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &client{base: "https://" + address, http: &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return (&tls.Dialer{NetDialer: dialer, Config: cfg}).DialContext(ctx, network, addr)
			},
			MaxResponseHeaderBytes: maxAnswerHeader,
			MaxIdleConns:           2,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// pinnedClient is for a host that has nothing but a token.
func pinnedClient(address string, bundle identity.Bundle) *client {
	cfg := identity.PinnedClientTLS(bundle, identity.AuthorizeIDs(authority(bundle.TrustDomain)))
	cfg.NextProtos = []string{hostapi.ALPNJoin}
	return newClient(address, cfg)
}

// hostClient shows the host's SVID.
func hostClient(address string, source *identity.Source) *client {
	return newClient(address, source.ClientTLS([]string{hostapi.ALPNHost}, identity.AuthorizeIDs(authority(source.TrustDomain()))))
}

func authority(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromPath(td, hostapi.AuthorityPath)
}

// call asks once. Refusals are *hostapi.Error.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer := io.LimitReader(resp.Body, hostapi.MaxAnswer)
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(answer).Decode(out); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		return nil
	}
	refusal := &hostapi.Error{}
	if err := json.NewDecoder(answer).Decode(refusal); err != nil || refusal.Code == "" {
		return fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	return refusal
}

// close lets calls under way finish, and keeps no connection after them.
func (c *client) close() {
	if c != nil {
		c.http.CloseIdleConnections()
	}
}
