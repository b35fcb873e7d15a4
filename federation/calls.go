package federation

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
)

const (
	// callsTimeout bounds the question to one gateway; all are asked at once.
	callsTimeout = 3 * time.Second
	// maxCallsAnswer bounds a gateway's answer: MaxCalls trails of many attempts.
	maxCallsAnswer = 32 << 20
	// callsPath is that of gateway/control.
	callsPath = "/v1/calls"
	// askedAtOnce bounds the gateways that are asked at the same time.
	askedAtOnce = 16
)

// Calls asks the own gateways for calls that they kept.
func (p *plane) Calls(ctx context.Context, q resource.CallQuery) (*resource.Calls, error) {
	asked := p.gateways.fresh(p.now())
	if q.Gateway != "" {
		h, ok := p.gateways.named(q.Gateway)
		if !ok {
			return nil, &api.ExplainError{Reason: api.UnknownGateway, Cluster: p.opts.Cluster, Gateway: q.Gateway}
		}
		asked = []heard{h}
	}
	if len(asked) == 0 {
		return nil, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no gateway is heard")}
	}
	limit := q.Limit
	if limit <= 0 || limit > resource.MaxCalls {
		limit = resource.MaxCalls
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	for name, value := range map[string]string{"trace": q.TraceID, "request": q.RequestID} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Service.IsZero() {
		query.Set("service", q.Service.String())
	}
	if q.Saved {
		query.Set("saved", "true")
	}
	out := &resource.Calls{Cluster: p.opts.Cluster, Trails: []route.Trail{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, askedAtOnce)
	for _, h := range asked {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found, err := p.askGateway(ctx, h.report, query)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Unasked = append(out.Unasked, resource.UnaskedGateway{Gateway: h.report.Gateway.Name, Reason: err.Error()})
				return
			}
			out.Trails = append(out.Trails, found.Trails...)
			if out.Plans == nil {
				out.Plans = found.Plans
			}
			maps.Copy(out.Plans, found.Plans)
			out.More = out.More || found.Before != 0
		})
	}
	all.Wait()
	slices.SortFunc(out.Trails, func(a, b route.Trail) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.Gateway, b.Gateway))
	})
	slices.SortFunc(out.Unasked, func(a, b resource.UnaskedGateway) int { return cmp.Compare(a.Gateway, b.Gateway) })
	if len(out.Trails) > limit {
		out.Trails, out.More = out.Trails[:limit], true
		prune(out)
	}
	return out, nil
}

// prune forgets the plans that no trail was decided by.
func prune(c *resource.Calls) {
	used := make(map[string]bool)
	for i := range c.Trails {
		for _, a := range c.Trails[i].Attempts {
			if a.Saved != nil {
				used[a.Saved.Plan] = true
			}
		}
	}
	maps.DeleteFunc(c.Plans, func(name string, _ json.RawMessage) bool { return !used[name] })
}

// kept is a gateway's answer, as gateway/trails writes it.
type kept struct {
	Trails []route.Trail              `json:"trails"`
	Plans  map[string]json.RawMessage `json:"plans"`
	Before uint64                     `json:"before"`
}

// askGateway asks one gateway by its control listener.
func (p *plane) askGateway(ctx context.Context, r *route.Report, query url.Values) (*kept, error) {
	if r.Control == "" {
		return nil, errors.New("it has no control listener")
	}
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	id, err := mesh.GatewayID(p.id, r.Gateway.Name)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := &tls.Dialer{Config: p.opts.Identity.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(id))}
			return d.DialContext(ctx, "tcp", r.Control)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.Control+callsPath+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d: an older gateway keeps no calls", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCallsAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxCallsAnswer {
		return nil, fmt.Errorf("its answer is longer than %d bytes", maxCallsAnswer)
	}
	out := new(kept)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("its answer is not understood: %w", err)
	}
	maps.DeleteFunc(out.Plans, func(name string, _ json.RawMessage) bool { // as its own alone
		return !strings.HasPrefix(name, r.Gateway.Name+"/")
	})
	for i := range out.Trails {
		out.Trails[i].Cluster, out.Trails[i].Gateway = p.opts.Cluster, r.Gateway.Name // who was asked, whatever it says
	}
	return out, nil
}
