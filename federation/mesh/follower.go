package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// ErrDrift means that a patch does not lead from what the follower has to what
// the federation has: it needs a full one.
var ErrDrift = errors.New("patch does not fit")

// Follower is a gateway's side of a stream of patches: a pure state machine that
// makes tables of them, each sharing with the one before what did not change. A
// refused patch leaves it as it was. It is for one goroutine at a time.
type Follower struct {
	cluster  string
	state    *state // nil before the first table
	batch    *batch
	needFull bool
	texts    map[string]string
	sets     map[string][]catalog.ClusterName
}

// batch is a patch that has begun.
type batch struct {
	first    *Patch
	services []ServicePatch // ExportedTo points into sets
	removed  []catalog.ServiceName
	sets     [][]catalog.ClusterName
}

// NewFollower starts from a table that the gateway has; nil is none. Patches of
// another cluster than the one of the given ID are refused.
func NewFollower(cluster string, have *route.Table) (*Follower, error) {
	f := &Follower{cluster: cluster}
	if have == nil {
		return f, nil
	}
	s, err := newState(have)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	f.state = s
	return f, nil
}

// Take makes a whole table the one that patches lead from.
func (f *Follower) Take(t *route.Table) error {
	s, err := newState(t)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	f.state, f.needFull, f.batch = s, false, nil
	return nil
}

// Connected begins a new stream, and returns what to ask for: everything where
// epoch and version are 0.
func (f *Follower) Connected() (epoch, version uint64) {
	f.batch = nil
	if f.state == nil || f.needFull {
		return 0, 0
	}
	return f.state.table.Epoch, f.state.table.Version
}

// Table is the last one, nil before the first.
func (f *Follower) Table() *route.Table {
	if f.state == nil {
		return nil
	}
	return f.state.table
}

// Apply takes one line. It returns the table once its patch is complete; nil
// until then, and where the gateway has that table already.
func (f *Follower) Apply(p *Patch) (*route.Table, error) {
	if f.batch == nil {
		f.batch = &batch{first: p}
	}
	err := f.batch.add(p)
	if err == nil && p.More {
		return nil, nil
	}
	var next *state
	if err == nil {
		next, err = f.build(f.batch, p)
	}
	f.batch = nil
	if err != nil {
		f.needFull = f.needFull || errors.Is(err, ErrDrift)
		return nil, err
	}
	again := f.state != nil && f.state.table.Epoch == next.table.Epoch && f.state.table.Version == next.table.Version
	same := again && f.state.sum == next.sum
	f.needFull = false
	if same {
		return nil, nil
	}
	f.state = next
	return next.table, nil
}

// add gathers one line.
func (b *batch) add(p *Patch) error {
	q := b.first
	if p.Epoch != q.Epoch || p.Version != q.Version || p.Since != q.Since || p.Full != q.Full {
		return fmt.Errorf("patch (%d, %d): a line of (%d, %d) is in it", q.Epoch, q.Version, p.Epoch, p.Version)
	}
	if p != q && (p.Head != nil || p.Intentions != nil || p.Peers != nil || p.RemovedPeers != nil) {
		return fmt.Errorf("patch (%d, %d): its head is in a later line", q.Epoch, q.Version)
	}
	if n := len(b.services) + len(p.Services) + len(b.removed) + len(p.RemovedServices); n > MaxPatchServices {
		return fmt.Errorf("patch (%d, %d): has %d services, at most %d", q.Epoch, q.Version, n, MaxPatchServices)
	}
	for i := range p.Services {
		s := &p.Services[i]
		if s.ExportedTo == nil {
			continue
		}
		if *s.ExportedTo < 0 || *s.ExportedTo >= len(p.Sets) {
			return fmt.Errorf("patch (%d, %d): service %s: set %d of %d", q.Epoch, q.Version, s.Name, *s.ExportedTo, len(p.Sets))
		}
		s.ExportedTo = new(*s.ExportedTo + len(b.sets))
	}
	b.sets = append(b.sets, p.Sets...)
	b.services = append(b.services, p.Services...)
	b.removed = append(b.removed, p.RemovedServices...)
	return nil
}

// build makes the state after a whole patch, whose last line is last.
func (f *Follower) build(b *batch, last *Patch) (*state, error) {
	p := b.first
	old := f.state
	if p.Full {
		old = &state{table: new(route.Table), traffic: make(map[catalog.ServiceName]route.Digest)}
	}
	fail := func(what string, args ...any) error {
		return fmt.Errorf("patch (%d, %d): %w: %s", p.Epoch, p.Version, ErrDrift, fmt.Sprintf(what, args...))
	}
	if p.Full && f.state != nil && (position{p.Epoch, p.Version}).before(position{f.state.table.Epoch, f.state.table.Version}) {
		return nil, fmt.Errorf("patch (%d, %d): is older than (%d, %d)", p.Epoch, p.Version, f.state.table.Epoch, f.state.table.Version)
	}
	if !p.Full && (old == nil || old.table.Epoch != p.Epoch || old.table.Version != p.Since) {
		return nil, fail("leads from version %d", p.Since)
	}
	t := *old.table
	next := &state{table: &t, head: old.head, intentions: old.intentions, traffic: old.traffic, sum: old.sum, digester: old.digester}
	if err := next.takeHead(p); err != nil {
		return nil, fmt.Errorf("patch (%d, %d): %w", p.Epoch, p.Version, err)
	}
	if t.Cluster.ID != f.cluster {
		return nil, fmt.Errorf("patch (%d, %d): is of %q, not of %s", p.Epoch, p.Version, t.Cluster.ID, f.cluster)
	}
	if err := next.takePeers(old, p); err != nil {
		return nil, err
	}
	if err := f.takeServices(next, old, b); err != nil {
		return nil, err
	}
	if n := len(t.Services); n != last.Count {
		return nil, fail("leads to %d services, not %d", n, last.Count)
	}
	if sum := next.sum.String(); sum != last.Digest {
		return nil, fail("leads to digest %s, not %.64s", sum, last.Digest)
	}
	return next, nil
}

func (s *state) takeHead(p *Patch) error {
	t := s.table
	if p.Head != nil {
		// The format goes first: a newer one may not even decode.
		var format struct {
			Format int `json:"format"`
		}
		if err := json.Unmarshal(p.Head, &format); err != nil {
			return fmt.Errorf("head: %w", err)
		}
		if format.Format > route.TableFormat {
			return fmt.Errorf("format %d is newer than %d, which this build understands", format.Format, route.TableFormat)
		}
		var head route.Table
		if err := json.Unmarshal(p.Head, &head); err != nil {
			return fmt.Errorf("head: %w", err)
		}
		head.Peers, head.Services, head.Intentions = t.Peers, t.Services, t.Intentions
		*t = head
		s.sum.Toggle(s.head)
		s.head = route.DigestText(p.Head)
		s.sum.Toggle(s.head)
	}
	t.Epoch, t.Version = p.Epoch, p.Version
	if p.Intentions == nil {
		return nil
	}
	t.Intentions = nil
	if err := json.Unmarshal(p.Intentions, &t.Intentions); err != nil {
		return fmt.Errorf("intentions: %w", err)
	}
	s.sum.Toggle(s.intentions)
	if s.intentions = route.DigestText(p.Intentions); len(t.Intentions) == 0 {
		s.intentions, t.Intentions = route.Digest{}, nil
	}
	s.sum.Toggle(s.intentions)
	return nil
}

func (s *state) takePeers(old *state, p *Patch) error {
	if len(p.Peers) == 0 && len(p.RemovedPeers) == 0 {
		return nil
	}
	name := func(p *route.Peer) catalog.ClusterName { return p.Name }
	peers, err := edit(old.table.Peers, p.Peers, p.RemovedPeers, name, func(was, is *route.Peer) *route.Peer {
		if was != nil {
			s.sum.Toggle(s.digester.Peer(was))
		}
		if is != nil {
			s.sum.Toggle(s.digester.Peer(is))
		}
		return is
	})
	if err != nil {
		return fmt.Errorf("patch (%d, %d): peers: %w", p.Epoch, p.Version, err)
	}
	s.table.Peers = peers
	return nil
}

// takeServices applies the patches of services.
func (f *Follower) takeServices(next, old *state, b *batch) error {
	if len(b.services) == 0 && len(b.removed) == 0 {
		return nil
	}
	rows := make([]route.Service, len(b.services))
	byName := make(map[catalog.ServiceName]*ServicePatch, len(b.services))
	for i := range b.services {
		rows[i].Name = b.services[i].Name
		byName[rows[i].Name] = &b.services[i]
	}
	next.traffic = maps.Clone(old.traffic)
	var fault error
	name := func(s *route.Service) catalog.ServiceName { return s.Name }
	services, err := edit(old.table.Services, rows, b.removed, name, func(was, is *route.Service) *route.Service {
		if was != nil {
			next.sum.Toggle(old.digest(was))
		}
		if is == nil {
			delete(next.traffic, was.Name)
			return nil
		}
		row, text, err := f.row(b, was, byName[is.Name])
		if err != nil {
			fault = errors.Join(fault, fmt.Errorf("service %s: %w", is.Name, err))
			return is
		}
		if delete(next.traffic, row.Name); row.Traffic != nil {
			if text == nil {
				next.traffic[row.Name] = old.traffic[row.Name]
			} else {
				next.traffic[row.Name] = route.DigestText(text)
			}
		}
		next.sum.Toggle(next.digest(&row))
		return &row
	})
	if err = errors.Join(err, fault); err != nil {
		return fmt.Errorf("patch (%d, %d): %w", b.first.Epoch, b.first.Version, err)
	}
	next.table.Services = services
	return nil
}
