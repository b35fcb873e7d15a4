package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// fetchTimeout bounds discovery and the key set together: a request waits for
	// both.
	fetchTimeout = 5 * time.Second
	// maxDiscovery and maxJWKS bound the two documents; they have a few KiB.
	maxDiscovery = 128 << 10
	maxJWKS      = 256 << 10
	// maxCA bounds the file of roots; the Web's have 250 KiB.
	maxCA = 1 << 20
)

// client reads JSON from the issuer.
type client struct{ http *http.Client }

// newClient trusts the roots of caFile, or those of the system. It is the one
// place where a server is known by the Web's PKI and not by a SPIFFE ID: issuers
// are not of the mesh.
func newClient(caFile string) (*client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := readBounded(caFile, maxCA)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s: has no certificate", caFile)
		}
	}
	return &client{http: &http.Client{
		Timeout: fetchTimeout,
		// Where keys are is said by the configuration and by the issuer, not by
		// whoever answers there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			// Asked every quarter of an hour: a kept connection would serve nobody.
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
	}}, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: has more than %d bytes", path, limit)
	}
	return data, err
}

// get reads one JSON document of at most limit bytes.
func (c *client) get(ctx context.Context, from string, limit int64, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d, must be 200 (redirects are not followed)", from, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if int64(len(body)) > limit {
		return fmt.Errorf("%s: has more than %d bytes", from, limit)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

// keysURLRule says what is wrong with where an issuer says that its keys are, or
// "". An issuer on https cannot send us to plain http.
func keysURLRule(keys, issuer string) string {
	u, err := url.Parse(keys)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || len(keys) > maxURL {
		return "is no URL of a key set"
	}
	own, err := url.Parse(issuer)
	if err != nil {
		return "has no issuer"
	}
	if u.Scheme == "https" || u.Scheme == "http" && own.Scheme == "http" && loopback(u.Hostname()) {
		return ""
	}
	return "must be https"
}
