package bundleendpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// FetchTimeout bounds one fetch, from the first packet to the last byte: a few
	// KiB cross any WAN in well under a second.
	FetchTimeout = 5 * time.Second
	// maxHeaderBytes bounds the header of an answer; a bundle needs five lines.
	maxHeaderBytes = 16 << 10
	// maxCAFile bounds the file of roots; the system's whole set takes 200 KiB.
	maxCAFile = 4 << 20
)

// Refusals of an answer; each is wrapped with the value and the rule. Those of
// its content are identity's.
var (
	// ErrStatus: not 200. A redirect is one of these: an endpoint is where the
	// configuration says, and nowhere else.
	ErrStatus = errors.New("status is not 200")
	// ErrEncoding: the body is compressed, which nobody asked for.
	ErrEncoding = errors.New("body is encoded")
)

// trust is what a follower needs of its process's identity.
type trust interface {
	EndpointClientTLS(authorize identity.Authorizer) *tls.Config
}

// fetch gets the document at an endpoint, through all guards but those of its
// content. Each fetch has a connection of its own: the next one is minutes away,
// and must see the bundle of then.
func fetch(ctx context.Context, e Endpoint, held trust) ([]byte, error) {
	cfg, err := e.clientTLS(held)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, FetchTimeout, fmt.Errorf("no whole answer within %s", FetchTimeout))
	defer cancel()
	client := &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // none from the environment: the operator named the endpoint
			TLSClientConfig:        cfg,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, timely(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: it is %d", ErrStatus, resp.StatusCode)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("%w: %.40q", ErrEncoding, encoding)
	}
	if resp.ContentLength > identity.MaxBundleBytes {
		return nil, tooLarge()
	}
	document, err := io.ReadAll(io.LimitReader(resp.Body, identity.MaxBundleBytes+1))
	switch {
	case err != nil:
		return nil, timely(ctx, err)
	case len(document) > identity.MaxBundleBytes:
		return nil, tooLarge()
	}
	return document, nil
}

func tooLarge() error {
	return fmt.Errorf("%w: more than %d bytes", identity.ErrTooLarge, identity.MaxBundleBytes)
}

// timely says why a fetch that ran out of time did.
func timely(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// clientTLS is how the endpoint's server is recognised.
func (e Endpoint) clientTLS(held trust) (*tls.Config, error) {
	if e.Profile == SPIFFE {
		id, err := spiffeid.FromString(e.SPIFFEID)
		if err != nil {
			return nil, fmt.Errorf("spiffe_id: %w", err)
		}
		return held.EndpointClientTLS(identity.AuthorizeIDs(id)), nil
	}
	if e.CAFile == "" {
		return identity.WebClientTLS(nil), nil
	}
	f, err := os.Open(e.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	defer func() { _ = f.Close() }()
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s: holds no certificate", e.CAFile)
	}
	return identity.WebClientTLS(roots), nil
}
