package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Send delivers one report to every replica; one that takes it is enough. An
// error of type *StatusError is a refusal; any other means that none was reached.
func (g *Gateway) Send(ctx context.Context, r *route.Report) error {
	_, err := g.Exchange(ctx, r)
	return err
}

// Exchange is Send with the answer: what the gateway may use of budgets that the
// cluster's gateways share. It is that of the first replica, in the order of the
// configuration, that gave one, so that all gateways follow the same one while it lives;
// nil where none did.
func (g *Gateway) Exchange(ctx context.Context, r *route.Report) (*route.Shares, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if len(g.addresses) == 1 {
		return g.sendTo(ctx, g.addresses[0], body)
	}
	errs, answers := make([]error, len(g.addresses)), make([]*route.Shares, len(g.addresses))
	var wg sync.WaitGroup
	for i, address := range g.addresses {
		wg.Go(func() { answers[i], errs[i] = g.sendTo(ctx, address, body) })
	}
	wg.Wait()
	if !slices.Contains(errs, nil) {
		return nil, errors.Join(errs...)
	}
	for _, answer := range answers {
		if answer != nil {
			return answer, nil
		}
	}
	return nil, nil
}

func (g *Gateway) sendTo(ctx context.Context, address string, body []byte) (*route.Shares, error) {
	resp, err := g.do(ctx, address, http.MethodPost, mesh.ReportPath, body)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer func() {
		drain(resp.Body)
		_ = resp.Body.Close()
	}()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil, nil
	case http.StatusOK:
		shares := new(route.Shares)
		if err := json.NewDecoder(io.LimitReader(resp.Body, mesh.MaxSharesBytes)).Decode(shares); err != nil {
			return nil, fmt.Errorf("report: shares: %w", err)
		}
		return shares, nil
	default:
		return nil, fmt.Errorf("report: %w", statusError(resp))
	}
}
