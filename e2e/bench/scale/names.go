package main

import (
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	trustDomain = "scale.test"
	ownCluster  = "here"
	portName    = "http"
	// firstMark is above every weight that an endpoint starts with.
	firstMark = 1_000
)

func clusterID(ca *identitytest.CA, name string) spiffeid.ID {
	return ca.ID("/isthmus/cluster/" + name)
}

func gatewayID(cluster spiffeid.ID, n int) spiffeid.ID {
	return spiffeid.RequireFromString(fmt.Sprintf("%s/gateway/%s", cluster, gatewayName(n)))
}

func gatewayName(n int) string { return fmt.Sprintf("gw-%d", n) }
func peerName(n int) string    { return fmt.Sprintf("peer-%03d", n) }

func serviceName(i int) catalog.ServiceName {
	return catalog.MustServiceName(fmt.Sprintf("service-%05d.team-%02d", i, i%50))
}

func ports() []catalog.Port { return []catalog.Port{{Name: portName, Protocol: catalog.HTTP}} }

// ownService is service i of the own cluster. Every string that a source reads
// anew is made anew here too.
func ownService(s size, i int) *catalog.Service {
	n := s.Endpoints / s.Services
	if i < s.Endpoints%s.Services {
		n++
	}
	svc := &catalog.Service{Name: serviceName(i), Ports: ports(), Endpoints: make([]catalog.Endpoint, n)}
	for k := range svc.Endpoints {
		number := i*(s.Endpoints/s.Services+1) + k
		svc.Endpoints[k] = catalog.Endpoint{
			ID: fmt.Sprintf("i-%012x", number), Port: portName, Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)}), 8080),
			Locality: catalog.Locality{
				Cloud: "aws", Region: "us-east-1", Zone: []string{"use1-az1", "use1-az2", "use1-az4"}[k%3],
			},
		}
	}
	return svc
}

// offered is service i as a peer tells it.
func offered(i int, capacity uint64) *catalog.Summary {
	return &catalog.Summary{
		Service: serviceName(i), Ports: ports(),
		Rows: []catalog.SummaryRow{{Port: portName, Zone: "use1-az1", Ready: 10, Total: 10, Capacity: capacity}},
	}
}
