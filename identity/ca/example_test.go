package ca_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A CA and a process that gets its identity from it.
func Example() {
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	authority, err := ca.New(ca.Config{
		TrustDomain: spiffeid.RequireTrustDomainFromString("aws.example.org"),
		Dir:         filepath.Join(dir, "keys"),
		Socket:      filepath.Join(dir, "api.sock"),
		Entries:     []ca.Entry{{ID: spiffeid.RequireFromString("spiffe://aws.example.org/isthmus/gateway/gw1")}},
	}, ca.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	src, err := identity.New(identity.Options{WorkloadAPI: authority.Address()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- authority.Run(ctx) }()
	go func() { done <- src.Run(ctx) }()
	fmt.Println(src.WaitReady(ctx), src.ID())
	cancel()
	fmt.Println(<-done, <-done)
	// Output:
	// <nil> spiffe://aws.example.org/isthmus/gateway/gw1
	// <nil> <nil>
}
