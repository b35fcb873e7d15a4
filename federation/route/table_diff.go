package route

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Hash names what a table says, in hexadecimal: two tables of equal hash route
// alike. The position (epoch and version) and the time a peer was last heard do
// not count, so that a federation can tell whether there is anything to push.
func (t *Table) Hash() (string, error) {
	c := *t
	c.Epoch, c.Version = 0, 0
	c.Peers = slices.Clone(t.Peers)
	for i := range c.Peers {
		c.Peers[i].HeardAt = time.Time{}
	}
	b, err := json.Marshal(&c)
	if err != nil {
		return "", fmt.Errorf("hash table: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// TableDiff is what changed between two tables, each list in order.
type TableDiff struct {
	AddedPeers      []catalog.ClusterName `json:"added_peers,omitempty"`
	RemovedPeers    []catalog.ClusterName `json:"removed_peers,omitempty"`
	ChangedPeers    []catalog.ClusterName `json:"changed_peers,omitempty"`
	AddedServices   []catalog.ServiceName `json:"added_services,omitempty"`
	RemovedServices []catalog.ServiceName `json:"removed_services,omitempty"`
	ChangedServices []catalog.ServiceName `json:"changed_services,omitempty"`
	// Intentions and Cluster (its place, identity, federation, prices or that it is being joined) changed.
	Intentions bool `json:"intentions,omitempty"`
	Cluster    bool `json:"cluster,omitempty"`
	// Drill: one began or ended.
	Drill bool `json:"drill,omitempty"`
}

// IsEmpty reports whether nothing changed.
func (d TableDiff) IsEmpty() bool { return reflect.ValueOf(d).IsZero() }

// DiffTables tells what b changes of a; nil stands for an empty table. That a
// peer was heard again is no change.
func DiffTables(a, b *Table) TableDiff {
	if a == nil {
		a = new(Table)
	}
	if b == nil {
		b = new(Table)
	}
	var d TableDiff
	d.AddedPeers, d.RemovedPeers, d.ChangedPeers = diff(a.Peers, b.Peers,
		func(p *Peer) catalog.ClusterName { return p.Name }, cmp.Compare[catalog.ClusterName],
		func(x, y Peer) bool {
			x.HeardAt, y.HeardAt = time.Time{}, time.Time{}
			return reflect.DeepEqual(x, y)
		})
	d.AddedServices, d.RemovedServices, d.ChangedServices = diff(a.Services, b.Services,
		func(s *Service) catalog.ServiceName { return s.Name }, catalog.ServiceName.Compare,
		func(x, y Service) bool { return reflect.DeepEqual(x, y) })
	d.Intentions = len(a.Intentions)+len(b.Intentions) > 0 && !reflect.DeepEqual(a.Intentions, b.Intentions)
	d.Drill = !reflect.DeepEqual(a.Drill, b.Drill)
	d.Cluster = !a.Cluster.Equal(b.Cluster) || a.Federation != b.Federation || a.Joining != b.Joining || !a.Tariff.Equal(b.Tariff)
	return d
}

// diff merges two lists that are sorted by key.
func diff[T any, K comparable](a, b []T, key func(*T) K, order func(K, K) int, same func(T, T) bool) (added, removed, changed []K) {
	for i, k := 0, 0; i < len(a) || k < len(b); {
		switch {
		case k == len(b):
			removed = append(removed, key(&a[i]))
			i++
		case i == len(a):
			added = append(added, key(&b[k]))
			k++
		default:
			switch c := order(key(&a[i]), key(&b[k])); {
			case c < 0:
				removed = append(removed, key(&a[i]))
				i++
			case c > 0:
				added = append(added, key(&b[k]))
				k++
			default:
				if !same(a[i], b[k]) {
					changed = append(changed, key(&b[k]))
				}
				i, k = i+1, k+1
			}
		}
	}
	return added, removed, changed
}
