package identity_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A process reads its identity from the Workload API and dials a peer whose exact
// ID it knows.
func ExampleSource() {
	src, err := identity.New(identity.Options{
		WorkloadAPI: "unix:///run/spire/agent.sock",
		ID:          spiffeid.RequireFromString("spiffe://aws.example.org/isthmus/gateway/gw1"),
		CacheFile:   "/var/lib/isthmus/identity.cache",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() { _ = src.Run(ctx) }()
	if err := src.WaitReady(ctx); err != nil {
		fmt.Println(err)
		return
	}
	peer := spiffeid.RequireFromString("spiffe://gcp.example.org/isthmus/gateway/gw1")
	d := tls.Dialer{Config: src.ClientTLS([]string{"isthmus/1"}, identity.AuthorizeIDs(peer))}
	conn, err := d.DialContext(ctx, "tcp", "gw.gcp.example.org:7443")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = conn.Close()
}

// Bundles are bound to their trust domain: CA A cannot speak for domain B.
func ExampleSource_VerifyPeer() {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	src := a.Source(a.ID("/gw"), b.Bundle())
	id, err := src.VerifyPeer(b.SVID(b.ID("/gw")).Certificates)
	fmt.Println(id, err)
	_, err = src.VerifyPeer(a.SVID(b.ID("/gw")).Certificates)
	fmt.Println(err != nil)
	// Output:
	// spiffe://b.test/gw <nil>
	// true
}
