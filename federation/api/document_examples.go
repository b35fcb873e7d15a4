package api

import (
	"encoding/json"
	"fmt"
	"strings"
)

// exampleBodies are requests that run, by operation; a test runs each, creations
// first and deletions last.
func exampleBodies() map[string]string {
	const (
		export    = `{"name":"shop","services":["web.shop","*.public"],"to":["west"],"subset_labels":["version"]}`
		take      = `{"name":"from-west","from":"west","services":["*.shop"],"exclude":["debug.shop"],"namespaces":{"shop":"west-shop"}}`
		intention = `{"name":"web-may-pay","services":["pay.shop"],"callers":["spiffe://west.example.org/apps/web"],"action":"allow"}`
		traffic   = `{"name":"pay-stays-close","services":["pay.shop"],"clusters":["west"],"algorithm":"p2c","capacity":{"per_endpoint":100},"priorities":[{"http":[{"path_prefix":"/batch/"}],"priority":"low"}],"health_check":{"type":"http","path":"/healthz"},"price_weight":100,"budget":{"monthly":500,"save":{"from_percent":90,"price_weight":1000}},"limits":{"rates":[{"name":"each-caller","per":["caller"],"requests":100}],"concurrency":{"adaptive":true},"breaker":{"max_pending":1024}}}`
		peer      = `{"name":"north","id":"spiffe://north.example.org/isthmus/cluster/north","gateways":["gw.north.example.org:7443"],"cloud":"gcp","region":"europe-north1","max_priority":"default"}`
	)
	return map[string]string{
		"create-export": export, "replace-export": export,
		"create-import": take, "replace-import": take,
		"create-intention": intention, "replace-intention": intention,
		"create-traffic-policy": traffic, "replace-traffic-policy": traffic,
		"create-peer": peer, "replace-peer": peer,
		"remember-applied-rule": export,
		"simulate":              `{"down":["west"],"capacity":["north=50%"]}`,
		"create-drill":          `{"down":["west"],"services":["web.default"],"share":"5%","for":"10m"}`,
		"create-invitation":     `{"to":"north","ttl":"10m"}`,
		"accept-invitation":     `{"token":"isthmus-peer-1.eyJ2IjoxfQ"}`,
	}
}

// exampleNames are values of path parameters, by the path's second part and the
// parameter.
func exampleNames() map[string]string {
	return map[string]string{
		"exports/name": "shop", "imports/name": "from-west", "intentions/name": "web-may-pay", "traffic-policies/name": "pay-stays-close",
		"peers/name": "north", "clusters/name": "east", "services/name": "web.default", "gateways/name": "gw-1", "sources/name": "consul",
		"applied/set": "shop-team", "applied/kind": "exports", "applied/name": "shop",
		"history/seq": "1", "drills/id": "20261130t120000-3f6c", "peering/id": "3f6c1a",
	}
}

// exampleQuery are values of parameters that are required.
func exampleQuery() map[string]string {
	return map[string]string{"explain/service": "web", "history/as_of": "1"}
}

// describeExamples writes an example into every operation: the parameters that it
// cannot go without, and the body.
func (s *Server) describeExamples() error {
	bodies, names, query := exampleBodies(), exampleNames(), exampleQuery()
	for _, op := range s.operations {
		resource, _, _ := strings.Cut(strings.TrimPrefix(op.Path, "/v1/"), "/")
		for _, p := range op.Parameters {
			switch {
			case p.In == "path":
				p.Example = names[resource+"/"+p.Name]
			case p.In == "query" && p.Required:
				p.Example = query[resource+"/"+p.Name]
			case p.In == "header" && p.Name == "If-Match":
				p.Example = "*"
			default:
				continue
			}
			if p.Example == "" {
				return fmt.Errorf("%s: parameter %s has no example", op.OperationID, p.Name)
			}
		}
		if op.RequestBody == nil {
			continue
		}
		var body any
		if err := json.Unmarshal([]byte(bodies[op.OperationID]), &body); err != nil {
			return fmt.Errorf("%s: body has no example: %w", op.OperationID, err)
		}
		for _, m := range op.RequestBody.Content {
			m.Example = body
		}
	}
	return nil
}
