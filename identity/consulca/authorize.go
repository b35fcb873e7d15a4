package consulca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// askTimeout bounds one question: the agent answers from its memory.
	askTimeout = 3 * time.Second
	// fresh is how long an answer counts without asking again: a caller that opens many
	// connections at once is asked about once.
	fresh = 2 * time.Second
	// maxAsking bounds the questions at once: an agent allows a client 200 connections.
	maxAsking = 16
	// maxVerdicts bounds those that are kept; one takes about 300 bytes.
	maxVerdicts = 10_000
	// maxSerial is that of RFC 5280, section 4.1.2.2, in bytes.
	maxSerial = 20
)

// ErrUnknown says that intentions could not be asked about a caller, and never have
// been.
var ErrUnknown = errors.New("consul's intentions cannot be asked")

// DeniedError says that an intention of the mesh denies a caller.
type DeniedError struct {
	Service, Caller string
	Reason          string // Consul's
}

// Error implements error.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("consul's intentions deny %s to call %s: %s", e.Caller, e.Service, e.Reason)
}

// IsService reports whether id is of the form that the mesh gives services
// (/ns/NS/dc/DC/svc/NAME, with /ap/PARTITION before it), and not an agent's, a
// server's or a mesh gateway's.
func IsService(id spiffeid.ID) bool {
	parts := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	if len(parts) == 8 && parts[0] == "ap" {
		parts = parts[2:]
	}
	return len(parts) == 6 && parts[0] == "ns" && parts[2] == "dc" && parts[4] == "svc"
}

type question struct{ service, caller string }

type verdict struct {
	denied *DeniedError // nil: allowed
	at     time.Time    // of the last question, answered or not
}

// Authorize asks the mesh's intentions whether the service whose certificate is leaf
// may call service, as whoever holds that service's certificate is to do. The error is
// a *DeniedError, or wraps ErrUnknown. While the agent does not answer, its last answer
// about the two counts.
func (c *Client) Authorize(ctx context.Context, service string, leaf *x509.Certificate) error {
	if len(leaf.URIs) != 1 {
		return fmt.Errorf("%w: the certificate names nobody", ErrUnknown)
	}
	q := question{service, leaf.URIs[0].String()}
	last, known := c.verdict(q)
	if !known || time.Since(last.at) >= fresh {
		next, err := c.askOnce(ctx, q, leaf)
		switch {
		case err == nil:
			last = next
		case !known:
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		default:
			c.log.Warn("intentions cannot be asked, the last answer counts", "service", service, "caller", q.caller, "err", err)
			if now, held := c.postpone(q); held {
				last = now
			}
		}
	}
	if last.denied != nil {
		return last.denied
	}
	return nil
}

// askOnce asks, unless somebody else has done so while this one waited for its turn.
func (c *Client) askOnce(ctx context.Context, q question, leaf *x509.Certificate) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	}
	if v, known := c.verdict(q); known && time.Since(v.at) < fresh {
		return v, nil
	}
	v, err := c.ask(ctx, q, leaf)
	if err == nil {
		c.keep(q, v)
	}
	return v, err
}

func (c *Client) verdict(q question) (verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.verdicts[q]
	return v, ok
}

// postpone lets the answer that is there, which somebody else may have got meanwhile,
// count for a while more: connections need not wait for an agent that hangs, each of
// them anew.
func (c *Client) postpone(q question) (v verdict, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, held = c.verdicts[q]; held {
		v.at = time.Now()
		c.verdicts[q] = v
	}
	return v, held
}

// keep keeps a verdict, in the place of any other where there are too many.
func (c *Client) keep(q question, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verdicts == nil {
		c.verdicts = make(map[question]verdict)
	}
	if _, known := c.verdicts[q]; !known && len(c.verdicts) >= maxVerdicts {
		for other := range c.verdicts {
			delete(c.verdicts, other)
			break
		}
	}
	c.verdicts[q] = v
}

func (c *Client) ask(ctx context.Context, q question, leaf *x509.Certificate) (verdict, error) {
	body, err := json.Marshal(map[string]string{
		"Target": q.service, "ClientCertURI": q.caller, "ClientCertSerial": serial(leaf),
	})
	if err != nil {
		return verdict{}, err
	}
	answer, _, err := c.send(ctx, http.MethodPost, "/v1/agent/connect/authorize", nil, bytes.NewReader(body))
	if err != nil {
		return verdict{}, err
	}
	// A pointer tells a no from an answer to something else.
	var said struct {
		Authorized *bool
		Reason     string
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return verdict{}, err
	}
	switch {
	case said.Authorized == nil:
		return verdict{}, errors.New("the answer says neither yes nor no")
	case *said.Authorized:
		return verdict{at: time.Now()}, nil
	default:
		return verdict{at: time.Now(), denied: &DeniedError{Service: q.service, Caller: q.caller, Reason: said.Reason}}, nil
	}
}

// serial is a certificate's number as Consul writes it: bytes in hexadecimal, with
// colons.
func serial(leaf *x509.Certificate) string {
	raw := leaf.SerialNumber.Bytes()
	if len(raw) > maxSerial {
		raw = raw[:maxSerial]
	}
	parts := make([]string, len(raw))
	for i := range raw {
		parts[i] = hex.EncodeToString(raw[i : i+1])
	}
	return strings.Join(parts, ":")
}
