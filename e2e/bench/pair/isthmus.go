package main

import (
	"cmp"
	"net"
	"strconv"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// startIsthmus starts two clusters of one gateway each, whose federations share the
// service by policy: what is measured enters at a TCP listener of the one and leaves at
// the other. The processes that are accounted for are the gateways'.
func startIsthmus(b *stage, service string, at place, p parameters) (started, error) {
	near, pids := startClusters(b, "", service, at, p)
	return started{target{near.TCP["web"].String(), "web.default.mesh"}, pids}, nil
}

// startIsthmusHTTP enters at the HTTP listener, where each request is one decision, one
// stream and one line of statistics: more than the other peers do.
func startIsthmusHTTP(b *stage, service string, at place, p parameters) (started, error) {
	near, pids := startClusters(b, "", service, at, p)
	return started{target{near.HTTP.String(), "page.default.mesh"}, pids}, nil
}

// startOther is startIsthmus of the build to compare with.
func startOther(b *stage, service string, at place, p parameters) (started, error) {
	near, pids := startClusters(b, p.Against, service, at, p)
	return started{target{near.TCP["web"].String(), "web.default.mesh"}, pids}, nil
}

// startClusters starts both by a build, or by this tree's.
func startClusters(b *stage, build, service string, at place, p parameters) (near *stand.Gateway, pids []int) {
	const domain = "bench.example.org"
	s := stand.New(b,
		stand.Spec{Name: "near", Cloud: "bench", Region: "one", Zone: "a", TrustDomain: domain, TCP: map[string]string{"web": "web.default"}},
		stand.Spec{Name: "far", Cloud: "bench", Region: "two", Zone: "a", TrustDomain: domain},
	)
	for _, c := range s.Clusters {
		c.Federation.Path = cmp.Or(build, c.Federation.Path)
		c.Domain.CA.Path = cmp.Or(build, c.Domain.CA.Path)
		delete(c.Config, "log") // scenarios log all that there is; this is about a gateway as it comes
		for _, g := range c.Gateways {
			delete(g.Config, "log")
			g.Section()["access_log"] = p.AccessLog
			g.Path = cmp.Or(build, g.Path)
		}
	}
	if at.link != nil {
		apart(s, at)
	}
	s.Clusters[1].WriteCatalog(b,
		stand.Service{Name: "web", Port: "default", Protocol: "tcp", Addresses: []string{service}},
		stand.Service{Name: "page", Port: "default", Protocol: "http", Addresses: []string{service}},
	)
	s.Start()
	for _, c := range s.Clusters {
		pids = append(pids, c.Gateways[0].PID())
	}
	return s.Clusters[0].Gateways[0], pids
}

// apart has the clusters reach each other over the link only.
func apart(s *stand.Stand, at place) {
	for i, c := range s.Clusters {
		g := c.Gateways[0]
		port := strconv.Itoa(int(g.Link.Port()))
		there := []any{net.JoinHostPort(at.there, port)}
		g.Section()["listen"].(stand.Object)["link"] = net.JoinHostPort(at.here, port)
		g.Section()["advertise"] = there
		other := s.Clusters[1-i].Section()
		other["peers"].([]any)[0].(stand.Object)["gateways"] = there
	}
}
