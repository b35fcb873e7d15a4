package stand

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// Calls are HTTP calls by the way in of a cluster's first gateway.
type Calls struct {
	url    string
	client *http.Client
}

// Calls returns what calls as a workload of the cluster does, on connections of its own
// until t ends.
func (c *Cluster) Calls(t testing.TB) *Calls {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &Calls{url: "http://" + c.Gateways[0].HTTP.String() + "/", client: &http.Client{Transport: transport}}
}

// To calls one service, as Load does: who is what it answers. Another answer than 200 is
// an error that says the reason.
func (k *Calls) To(authority string) func(context.Context) (who string, err error) {
	return func(ctx context.Context) (string, error) {
		who, _, err := k.Ask(ctx, authority)
		return who, err
	}
}

// Ask calls a service with header fields, each a name and a value, and returns also the
// fields of the answer.
func (k *Calls) Ask(ctx context.Context, authority string, fields ...string) (who string, answer http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return "", nil, err
	}
	req.Host = authority
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
	}
	return string(body), resp.Header, err
}
