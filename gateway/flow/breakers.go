package flow

import (
	"maps"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow/breaker"
	"github.com/prometheus/client_golang/prometheus"
)

// breakers are the bounds of what is under way of one service, by cluster.
type breakers struct {
	service   string
	most      breaker.Bounds
	m         *metrics
	mu        sync.RWMutex
	byCluster map[catalog.ClusterName]*cell
}

// cell is one cluster's.
type cell struct {
	breaker.Breaker
	refused [breaker.Pending + 1]prometheus.Counter
}

func newBreakers(name catalog.ServiceName, b *policy.Breaker, m *metrics) *breakers {
	return &breakers{
		service: name.String(), m: m, byCluster: make(map[catalog.ClusterName]*cell),
		most: breaker.Bounds{Connections: int64(b.MaxConnections), Requests: int64(b.MaxRequests), Pending: int64(b.MaxPending)},
	}
}

// adopt goes on with the counts of what is under way.
func (b *breakers) adopt(was *breakers) {
	was.mu.RLock()
	defer was.mu.RUnlock()
	maps.Copy(b.byCluster, was.byCluster)
}

func (b *breakers) of(cluster catalog.ClusterName) *cell {
	b.mu.RLock()
	c := b.byCluster[cluster]
	b.mu.RUnlock()
	if c != nil {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c = b.byCluster[cluster]; c == nil {
		c = new(cell)
		for _, k := range breaker.Kinds() {
			c.refused[k] = b.m.breakerRefused.WithLabelValues(b.service, string(cluster), k.String())
		}
		b.byCluster[cluster] = c
	}
	return c
}
