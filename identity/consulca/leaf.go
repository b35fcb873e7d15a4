package consulca

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Leaf is the certificate of one service. It is an identity.Feed.
type Leaf struct {
	client  *Client
	service string
}

var _ identity.Feed = (*Leaf)(nil)

// String implements identity.Feed.
func (l *Leaf) String() string {
	return "consul " + l.client.config.Address + " service " + l.service
}

// pair is a certificate with its key.
type pair struct {
	id    spiffeid.ID
	certs []*x509.Certificate
	key   crypto.Signer
}

// Follow implements identity.Feed: a new leaf and new roots make a new offer. So does
// an answer that says nothing new, which ends a time of failures.
func (l *Leaf) Follow(ctx context.Context, offer func(identity.Offered), failed func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	pairs, failures := make(chan *pair), make(chan error)
	wg.Go(func() {
		l.client.watch(ctx, leafPath(l.service), func(body []byte) error {
			p, err := parseLeaf(body, l.service)
			if err != nil {
				return fmt.Errorf("leaf of %s: %w", l.service, err)
			}
			send(ctx, pairs, p)
			return nil
		}, func(err error) { send(ctx, failures, err) })
	})
	var held *pair
	var told *offered
	var leafErr error
	for {
		known, changed, rootsErr := l.client.current()
		next := &offered{held, known}
		switch {
		case held == nil || known == nil || told != nil && *told == *next:
		case known.domain != held.id.TrustDomain():
			// The leaf of one CA and the roots of another: the other half is under way.
			failed(fmt.Errorf("the leaf is %s, the roots are of %s", held.id, known.domain))
			told = next
		default:
			offer(identity.Offered{Certificates: held.certs, Key: held.key, Authorities: known.authorities})
			told = next
			// New roots with an old leaf are taken, and do not make it well again.
			if err := errors.Join(leafErr, rootsErr); err != nil {
				failed(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case held = <-pairs:
			leafErr = nil
		case leafErr = <-failures:
			failed(leafErr)
		case <-changed:
			if _, _, err := l.client.current(); err != nil {
				failed(err)
			}
		}
	}
}

// offered is what an offer was made of.
type offered struct {
	leaf  *pair
	roots *roots
}

func send[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// parseLeaf reads an answer, and holds it to the service that was asked for.
func parseLeaf(body []byte, service string) (*pair, error) {
	var answer struct{ CertPEM, PrivateKeyPEM string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair([]byte(answer.CertPEM), []byte(answer.PrivateKeyPEM))
	if err != nil {
		return nil, err
	}
	p := new(pair)
	var ok bool
	if p.key, ok = cert.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", cert.PrivateKey)
	}
	if p.certs, err = parseCertificates(answer.CertPEM); err != nil {
		return nil, err
	}
	if len(p.certs[0].URIs) != 1 {
		return nil, fmt.Errorf("the certificate has %d URI names, must have one", len(p.certs[0].URIs))
	}
	if p.id, err = spiffeid.FromURI(p.certs[0].URIs[0]); err != nil {
		return nil, err
	}
	if !strings.HasSuffix(p.id.Path(), "/svc/"+service) {
		return nil, fmt.Errorf("the certificate is of %s", p.id)
	}
	return p, nil
}

// parseCertificates reads one certificate or more.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("pem block %q is no certificate", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs, nil
}
