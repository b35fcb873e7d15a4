package tunnel_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// TestRotationCostsNoStream takes an SVID of a few seconds from a real Workload
// API past its end, with its successor arriving at half of its life.
func TestRotationCostsNoStream(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes the life of a certificate on the real clock")
	}
	const life = 8 * time.Second
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	ca := m.CA(tunneltest.DefaultTrustDomain)
	spec := tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()}
	answer := func(life time.Duration) identitytest.Answer {
		svid := ca.Mint(identitytest.Leaf{URIs: []string{spec.GatewayID().String()}, NotAfter: time.Now().Add(life)})
		return identitytest.Answer{SVIDs: []*x509svid.SVID{svid}, Bundles: []*x509bundle.Bundle{ca.Bundle()}}
	}
	api := identitytest.NewWorkloadAPI(t, answer(life))
	source, err := identity.New(identity.Options{WorkloadAPI: api.Address()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := source.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	end := source.NotAfter()
	spec.Identity = source
	a := m.Add(spec)
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
	m.Connect()
	first := a.WaitLink(b, tunnel.StateUp)

	rotated := false
	streams, failed := 0, 0
	for time.Now().Before(end.Add(life / 8)) {
		if !rotated && time.Until(end) < life/2 {
			api.Set(answer(time.Hour))
			rotated = true
		}
		s, err := a.OpenStream(ctx, "west", echoHeader(), []byte("x"))
		if err == nil {
			_, err = io.ReadFull(s, make([]byte, 1))
			_ = s.Close()
		}
		streams++
		if err != nil {
			failed++
			t.Errorf("stream %d, %v before the end: %v", streams, time.Until(end), err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d streams, %d failed", streams, failed)
	if l := a.WaitLink(b, tunnel.StateUp); l.Since.Equal(first.Since) {
		t.Error("the link was not renewed")
	}
}
