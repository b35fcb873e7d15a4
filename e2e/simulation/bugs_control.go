package simulation

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
)

// controlBugs are those of a federation and of the tables that it hands out.
func controlBugs() []*Bug {
	return []*Bug{
		{"the guard is off", []Invariant{Routable}, func(s *seams) {
			s.offer = func(f *federation, read *catalog.Snapshot) (*catalog.Snapshot, error) {
				var err error
				if f.guard, err = discovery.NewGuard(f.s.guard); err != nil {
					return nil, err
				}
				return f.guard.Offer(f.clock(), read)
			}
		}},
		{"a denial waits for the guard", []Invariant{Revoked, AllowList}, func(s *seams) {
			last, held := make(map[*federation]rules), make(map[*federation]time.Duration)
			s.rules = func(f *federation) rules {
				if f.guard.Held() > 0 {
					held[f] = f.now
				}
				r, ok := last[f]
				if at, ever := held[f]; ok && ever && f.now-at < 4*time.Second {
					f.after(time.Second, f.touch)
					return r
				}
				last[f] = f.disk.rules.clone()
				return last[f]
			}
		}},
		{"a start speaks before it knows", []Invariant{Routable}, func(s *seams) {
			s.ready = func(*federation) bool { return true }
			s.knows = func(*federation) bool { return true }
		}},
		{"an import rule is not asked", []Invariant{AllowList}, func(s *seams) {
			s.imports = func(*policy.Index) func(catalog.ClusterName, catalog.ServiceName) (merge.Import, bool) {
				return func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
					return merge.Import{Rule: "any", As: n}, true
				}
			}
		}},
		{"the catalog of one peer is taken for another's", []Invariant{Ownership}, func(s *seams) {
			s.summaries = func(l *listener) []*catalog.Summary {
				for _, c := range l.fed.s.clusters {
					if o := l.fed.peers[c.name]; o != nil && o != l && o.applier.Snapshot() != nil {
						return o.applier.Snapshot().Services()
					}
				}
				return l.applier.Snapshot().Services()
			}
		}},
		{"a peer that is not heard is withdrawn", []Invariant{Routable}, func(s *seams) {
			s.summaries = func(l *listener) []*catalog.Summary {
				if l.watch == nil {
					return nil
				}
				return l.applier.Snapshot().Services()
			}
		}},
		{"the epoch is not raised above a lost one", []Invariant{Agreement}, func(s *seams) {
			s.above = func(f *federation, _ uint64) uint64 { return f.disk.epoch }
		}},
		{"a gateway takes an older table", []Invariant{Monotonic}, func(s *seams) {
			s.judge = func(g *gateway, t *route.Table) (tablestore.Answer, error) {
				answer, err := tablestore.Judge(t, g.table, g.home.name)
				if answer == tablestore.Older {
					return tablestore.Applied, nil
				}
				return answer, err
			}
		}},
		{"a gateway whose federation is gone forgets its table", []Invariant{Routable}, func(s *seams) {
			s.plan = func(g *gateway) *route.Plan {
				if p := g.board.Plan(); p == nil || g.home.fed.up {
					return p
				}
				t := *g.table
				t.Services = nil
				return route.Compile(&t, g.board.Evidence(), g.board.Live())
			}
		}},
		{"links with a removed peer stay", []Invariant{Revoked}, func(s *seams) {
			s.admits = func(*gateway, *gateway) bool { return true }
		}},
	}
}

// exchangeBugs are those of what federations tell each other.
func exchangeBugs() []*Bug {
	return []*Bug{
		{"an older version is applied", []Invariant{Monotonic}, func(s *seams) {
			s.apply = func(l *listener, line []byte) (exchange.Effect, error) {
				effect, err := l.applier.Apply(line, l.fed.clock())
				var refused *exchange.RefusedError
				if errors.As(err, &refused) && (refused.Reason == exchange.ReasonStale || refused.Reason == exchange.ReasonGap) {
					l.applier = exchange.NewApplier(l.options())
					return l.applier.Apply(line, l.fed.clock())
				}
				return effect, err
			}
		}},
		{"half a batch is applied", []Invariant{Ownership}, func(s *seams) {
			half := make(map[*listener]*catalog.Summary)
			s.apply = func(l *listener, line []byte) (exchange.Effect, error) {
				effect, err := l.applier.Apply(line, l.fed.clock())
				e, bad := exchange.ParseEvent(line)
				if bad == nil && e.Type == exchange.Sync {
					delete(half, l)
				}
				if err == nil && bad == nil && e.Type == exchange.Service {
					v := new(catalog.Summary)
					if json.Unmarshal(e.Service, v) == nil {
						half[l] = v
						l.fed.touch()
					}
				}
				return effect, err
			}
			s.summaries = func(l *listener) []*catalog.Summary {
				list := l.applier.Snapshot().Services()
				v := half[l]
				if v == nil {
					return list
				}
				list = slices.DeleteFunc(slices.Clone(list), func(x *catalog.Summary) bool { return x.Service == v.Service })
				return append(list, v)
			}
		}},
		{"a restored exporter does not go above its listeners", []Invariant{Agreement, Ownership}, func(s *seams) {
			s.next = func(w *watch) ([]byte, exchange.Position, error) {
				to := w.to.fed.home.name
				if have := w.from.exporter.Position(to); have.Before(w.sent) {
					return w.from.exporter.Next(to, exchange.Position{}, true, true)
				}
				return w.from.exporter.Next(to, w.sent, w.full, w.first)
			}
		}},
		{"a listener that has refused does not come back", []Invariant{Agreement}, func(s *seams) {
			s.returns = func(l *listener, _ error) bool {
				l.over = true
				return false
			}
		}},
		{"changes are left out of a delta", []Invariant{Ownership, Agreement}, func(s *seams) {
			s.next = func(w *watch) ([]byte, exchange.Position, error) {
				to := w.to.fed.home.name
				if at := w.from.exporter.Position(to); !w.first && at != w.sent && w.sent.Version%2 == 1 {
					return nil, at, nil
				}
				return w.from.exporter.Next(to, w.sent, w.full, w.first)
			}
		}},
	}
}
