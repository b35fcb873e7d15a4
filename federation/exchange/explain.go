package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

const (
	// explainTimeout bounds one question to a peer.
	explainTimeout = 5 * time.Second
	// maxExplanation bounds its answer; a ledger of a thousand candidates has
	// some hundred bytes for each.
	maxExplanation = 4 << 20
)

// Explain asks the peer's federation, and returns its answer as it is: JSON that
// the peer wrote, to be judged by the caller.
func (i *Importer) Explain(ctx context.Context, query url.Values) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	req, err := i.request(ctx, ExplainPath, query.Encode())
	if err != nil {
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, err)
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := checkAnswer(resp, "application/json"); err != nil {
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExplanation+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, err)
	case len(body) > maxExplanation:
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, exceeds("explanation bytes", len(body), maxExplanation))
	case !json.Valid(body):
		return nil, fmt.Errorf("explain by %s: %w", i.opts.Cluster, errors.New("the answer is not JSON"))
	}
	return body, nil
}
