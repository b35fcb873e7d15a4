package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// caller is an identity of one cluster's gateway, from its real CA, that dials the
// gateway of another.
type caller struct {
	source *identity.Source
	from   *stand.Cluster
	to     *stand.Cluster
	server identity.Authorizer
	dialer *quic.Transport
}

// newCaller follows the CA of from, and the bundle file of the other domain as a
// federation does.
func newCaller(t *testing.T, from, to *stand.Cluster) *caller {
	t.Helper()
	gateway := func(c *stand.Cluster) spiffeid.ID {
		return spiffeid.RequireFromString(c.ID() + "/gateway/" + c.Gateways[0].Name)
	}
	source, err := identity.New(identity.Options{WorkloadAPI: "unix://" + from.Domain.Socket, ID: gateway(from)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() { _ = source.Run(ctx) })
	ready, stop := context.WithTimeout(ctx, within)
	defer stop()
	if err := source.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	peer := spiffeid.RequireTrustDomainFromString(to.Domain.TrustDomain)
	follow := func() error {
		document, err := os.ReadFile(to.Domain.Bundle)
		if err != nil {
			return err
		}
		return source.SetPeerBundle(peer, document)
	}
	if err := follow(); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := follow(); err != nil {
					t.Errorf("bundle of %s: %v", peer, err)
					return
				}
			}
		}
	})
	return &caller{source: source, from: from, to: to, server: identity.AuthorizeIDs(gateway(to)), dialer: newTransport(t)}
}

// handshake is one new connection, authenticated both ways. The client's own
// handshake ends before the server has judged its certificate, so it says what is
// no hello: only a server that has taken the certificate answers it.
func (c *caller) handshake(ctx context.Context) (string, error) {
	addr := udpAddr(c.to.Gateways[0].Link)
	conn, err := c.dialer.Dial(ctx, addr, c.source.ClientTLS([]string{"isthmus/1"}, c.server), &quic.Config{})
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	s, err := conn.OpenStream()
	if err == nil {
		_, err = s.Write([]byte{0})
	}
	if err == nil {
		_ = s.SetReadDeadline(time.Now().Add(within))
		_, err = s.Read(make([]byte, 1))
	}
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote && uint64(e.ErrorCode) == wire.Protocol.Code() {
		return c.to.Name, nil
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		// The word got lost, and the server has forgotten the connection since: that
		// it was no refusal is what the server's own counters are asked for.
		return c.to.Name, nil
	}
	return "", fmt.Errorf("no verdict: %w", err)
}

// shakeHands makes handshakes, spread over the load and both directions. Each
// dialer waits for its last one: a machine that was held up must not make up for
// it in one burst, which a gateway refuses on purpose.
func shakeHands(t *testing.T, callers ...*caller) stand.Results {
	t.Helper()
	const each = handshakes / dialers
	pace := time.NewTicker(loadFor * 9 / 10 / handshakes)
	defer pace.Stop()
	var (
		mu  sync.Mutex
		all stand.Results
		wg  sync.WaitGroup
	)
	for d := range dialers {
		c := callers[d%len(callers)]
		wg.Go(func() {
			for range each {
				<-pace.C
				ctx, cancel := context.WithTimeout(t.Context(), within)
				r := stand.Result{Start: time.Now()}
				r.Who, r.Err = c.handshake(ctx)
				r.Took = time.Since(r.Start)
				cancel()
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}
