package policy_test

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func Example() {
	rules := []policy.Intention{{
		Name:     "web-may-bill",
		Services: []policy.ServicePattern{"billing.shop"},
		Callers:  []policy.IDPattern{"spiffe://aws.example.org/web/*"},
		Action:   policy.Allow,
	}}
	a := policy.NewAuthorizer(rules)
	for _, caller := range []string{"spiffe://aws.example.org/web/1", "spiffe://gcp.example.org/web/1"} {
		v := a.Authorize(policy.AuthzRequest{
			Service:     catalog.MustServiceName("billing.shop"),
			Caller:      spiffeid.RequireFromString(caller),
			FromPeer:    true,
			Peer:        "aws-us-east-1",
			PeerAsserts: []policy.IDPattern{"spiffe://aws.example.org/*"},
		})
		fmt.Println(v.Allowed, v.Reason, v.Rule)
	}
	// Output:
	// true allowed web-may-bill
	// false caller_not_asserted
}
