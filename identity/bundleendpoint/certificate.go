package bundleendpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
)

const (
	// certificatePoll is how often the files are looked at, for a stat's price each.
	certificatePoll = time.Second
	// maxPEM bounds a certificate or key file; a chain of eight takes 20 KiB.
	maxPEM = 256 << 10
)

// Refusals of a web certificate, wrapped with path and value.
var (
	ErrCertificateExpired = errors.New("certificate is outside of its validity")
	ErrCertificateNoHost  = errors.New("certificate names no host")
	ErrCertificateIsCA    = errors.New("certificate is a ca")
)

// certificateFiles is a certificate with its key that others renew, such as an
// ACME client.
type certificateFiles struct {
	certFile, keyFile string
	now               func() time.Time
	log               *slog.Logger
	good              atomic.Pointer[tls.Certificate]
	cert, key         *keep.Mark // of the last look; of whoever builds, then of follow
}

func loadCertificate(certFile, keyFile string, now func() time.Time, log *slog.Logger) (*certificateFiles, error) {
	c := &certificateFiles{certFile: certFile, keyFile: keyFile, now: now, log: log}
	c.cert, c.key = keep.MarkOf(certFile), keep.MarkOf(keyFile)
	return c, c.read()
}

// certificate is what is shown: the last good one, also past its end, since the
// client's refusal then says what is wrong.
func (c *certificateFiles) certificate() (*tls.Certificate, error) { return c.good.Load(), nil }

// follow reads the files again when they change, until ctx ends.
func (c *certificateFiles) follow(ctx context.Context) {
	poll := time.NewTicker(certificatePoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			c.look()
		case <-ctx.Done():
			return
		}
	}
}

// look reads the files if they have changed since the last look. Both are written
// one after the other: a pair that does not fit is read again when the second
// one has changed as well.
func (c *certificateFiles) look() {
	cert, key := keep.MarkOf(c.certFile), keep.MarkOf(c.keyFile)
	if cert.Same(c.cert) && key.Same(c.key) {
		return
	}
	c.cert, c.key = cert, key
	if err := c.read(); err != nil {
		c.log.Warn("certificate of the bundle endpoint refused, the last good one stays", "path", c.certFile, "err", err)
		return
	}
	c.log.Info("certificate of the bundle endpoint updated", "path", c.certFile, "duration", c.good.Load().Leaf.NotAfter.Sub(c.now()))
}

func (c *certificateFiles) read() error {
	certPEM, err := readPEM(c.certFile)
	if err != nil {
		return fmt.Errorf("cert_file: %w", err)
	}
	keyPEM, err := readPEM(c.keyFile)
	if err != nil {
		return fmt.Errorf("key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM) // checks that they belong together
	if err != nil {
		return fmt.Errorf("cert_file: %s: %w", c.certFile, err)
	}
	leaf, now := pair.Leaf, c.now()
	switch {
	case leaf.IsCA:
		err = ErrCertificateIsCA
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		err = fmt.Errorf("%w: %s to %s", ErrCertificateExpired, leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		err = ErrCertificateNoHost
	}
	if err != nil {
		return fmt.Errorf("cert_file: %s: %w", c.certFile, err)
	}
	c.good.Store(&pair)
	return nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := keep.ReadBounded(f, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
