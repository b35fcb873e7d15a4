package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
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
	if p.Format > route.TableFormat {
		return fmt.Errorf("patch: format %d is newer than %d, which this build understands", p.Format, route.TableFormat)
	}
	if p.Epoch != q.Epoch || p.Version != q.Version || p.Since != q.Since || p.Full != q.Full || p.Format != q.Format {
		return fmt.Errorf("patch (%d, %d): a line of (%d, %d) is in it", q.Epoch, q.Version, p.Epoch, p.Version)
	}
	if p != q && (p.Cluster != nil || p.Federation != nil || p.Intentions != nil || p.Peers != nil || p.RemovedPeers != nil) {
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
	if p.Full && p.Cluster == nil || p.Cluster != nil && p.Cluster.ID != f.cluster {
		return nil, fmt.Errorf("patch (%d, %d): is not of %s", p.Epoch, p.Version, f.cluster)
	}
	if !p.Full && (old == nil || old.table.Epoch != p.Epoch || old.table.Version != p.Since) {
		return nil, fail("leads from version %d", p.Since)
	}
	t := *old.table
	t.Format, t.Epoch, t.Version = p.Format, p.Epoch, p.Version
	next := &state{table: &t, intentions: old.intentions, traffic: old.traffic, sum: old.sum, digester: old.digester}
	if err := next.takeHead(old, p); err != nil {
		return nil, err
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

func (s *state) takeHead(old *state, p *Patch) error {
	t := s.table
	if !p.Full {
		s.sum.Toggle(s.digester.Head(old.table, old.intentions))
	}
	if p.Cluster != nil {
		t.Cluster = *p.Cluster
	}
	if p.Federation != nil {
		t.Federation = *p.Federation
	}
	if p.Intentions != nil {
		t.Intentions = nil
		if err := json.Unmarshal(p.Intentions, &t.Intentions); err != nil {
			return fmt.Errorf("patch (%d, %d): intentions: %w", p.Epoch, p.Version, err)
		}
		if s.intentions = route.DigestText(p.Intentions); len(t.Intentions) == 0 {
			s.intentions, t.Intentions = route.Digest{}, nil
		}
	}
	s.sum.Toggle(s.digester.Head(t, s.intentions))
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
			next.sum.Toggle(old.part(was))
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
		next.sum.Toggle(next.part(&row))
		return &row
	})
	if err = errors.Join(err, fault); err != nil {
		return fmt.Errorf("patch (%d, %d): %w", b.first.Epoch, b.first.Version, err)
	}
	next.table.Services = services
	return nil
}

// row applies the patch of one service; text is that of a traffic policy which
// it brings.
func (f *Follower) row(b *batch, was *route.Service, p *ServicePatch) (row route.Service, text []byte, err error) {
	if was != nil && !p.Whole {
		row = *was
	} else if !p.Whole {
		return row, nil, fmt.Errorf("%w: is not known", ErrDrift)
	}
	row.Name = p.Name
	if was != nil {
		row.Name = was.Name // of the memory that the table before holds
	}
	if p.Ports != nil {
		row.Ports = f.ports(p.Ports)
	}
	if p.Quarantined != nil {
		row.Quarantined = *p.Quarantined
	}
	if p.ExportedTo != nil {
		row.ExportedTo = f.set(b.sets[*p.ExportedTo])
	}
	switch {
	case p.Traffic == nil:
	case bytes.Equal(p.Traffic, []byte(null)):
		row.Traffic = nil
	default:
		row.Traffic = new(policy.Traffic)
		if err := json.Unmarshal(p.Traffic, row.Traffic); err != nil {
			return row, nil, fmt.Errorf("traffic: %w", err)
		}
		text = p.Traffic
	}
	if row.Endpoints, err = f.endpoints(row.Endpoints, p); err != nil {
		return row, nil, err
	}
	if len(p.Remote) == 0 && len(p.RemoteGone) == 0 {
		return row, text, nil
	}
	cluster := func(r *route.Remote) catalog.ClusterName { return r.Cluster }
	row.Remote, err = edit(row.Remote, p.Remote, p.RemoteGone, cluster, func(_, is *route.Remote) *route.Remote {
		if is != nil {
			f.share(is, &row)
		}
		return is
	})
	return row, text, err
}

// endpoints applies what changes of a service's endpoints.
func (f *Follower) endpoints(have []catalog.Endpoint, p *ServicePatch) ([]catalog.Endpoint, error) {
	if len(p.Endpoints) == 0 && len(p.Gone) == 0 {
		return have, nil
	}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		e.Port, e.Source, e.Health = f.text(e.Port), f.text(e.Source), catalog.Health(f.text(string(e.Health)))
		l := &e.Locality
		l.Cloud, l.Region, l.Zone = f.text(l.Cloud), f.text(l.Region), f.text(l.Zone)
	}
	if p.Whole || len(have) == 0 {
		return p.Endpoints, nil
	}
	out := have
	if len(p.Gone) > 0 {
		gone := make(map[Instance]bool, len(p.Gone))
		for _, g := range p.Gone {
			gone[g] = true
		}
		out = make([]catalog.Endpoint, 0, len(have))
		for _, e := range have {
			if !gone[Instance{e.Port, e.ID}] {
				out = append(out, e)
			}
		}
		if len(have)-len(out) != len(p.Gone) {
			return nil, fmt.Errorf("%w: %d endpoints are gone, %d are known", ErrDrift, len(p.Gone), len(have)-len(out))
		}
	}
	merged := make([]catalog.Endpoint, 0, len(out)+len(p.Endpoints))
	puts := p.Endpoints
	for len(out) > 0 || len(puts) > 0 {
		switch {
		case len(puts) == 0 || len(out) > 0 && out[0].Compare(puts[0]) < 0:
			merged, out = append(merged, out[0]), out[1:]
		case len(out) == 0 || out[0].Compare(puts[0]) > 0:
			merged, puts = append(merged, puts[0]), puts[1:]
		default:
			merged, out, puts = append(merged, puts[0]), out[1:], puts[1:]
		}
	}
	return merged, nil
}

// share gives an offer the memory of what the service says already.
func (f *Follower) share(r *route.Remote, s *route.Service) {
	if r.Cluster = catalog.ClusterName(f.text(string(r.Cluster))); r.Name == s.Name {
		r.Name = s.Name
	}
	if r.Ports = f.ports(r.Ports); slices.Equal(r.Ports, s.Ports) {
		r.Ports = s.Ports
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Port, row.Zone, row.Subset = f.text(row.Port), f.text(row.Zone), f.text(row.Subset)
	}
}

func (f *Follower) ports(list []catalog.Port) []catalog.Port {
	for i := range list {
		list[i].Name, list[i].Protocol = f.text(list[i].Name), catalog.Protocol(f.text(string(list[i].Protocol)))
	}
	return list
}

// maxTexts bounds the texts and sets that are shared; what comes beyond has
// memory of its own.
const maxTexts = 1 << 16

// text is s, in the memory of the first that was equal.
func (f *Follower) text(s string) string {
	if have, ok := f.texts[s]; ok {
		return have
	}
	if f.texts == nil {
		f.texts = make(map[string]string)
	}
	if len(f.texts) < maxTexts {
		f.texts[s] = s
	}
	return s
}

// set is list, in the memory of the first that was equal.
func (f *Follower) set(list []catalog.ClusterName) []catalog.ClusterName {
	if len(list) == 0 {
		return nil
	}
	var key []byte
	for _, c := range list {
		key = append(append(key, c...), ' ')
	}
	if have, ok := f.sets[string(key)]; ok {
		return have
	}
	if f.sets == nil {
		f.sets = make(map[string][]catalog.ClusterName)
	}
	if len(f.sets) < maxTexts {
		f.sets[string(key)] = list
	}
	return list
}

// edit returns the sorted list with puts in place of what has their keys and
// without removes; each passes change first, nil standing for none. Both are
// sorted, each key once; what is removed is there.
func edit[T any, K ordered](list, puts []T, removes []K, key func(*T) K, change func(was, is *T) *T) ([]T, error) {
	out := make([]T, 0, len(list)+len(puts))
	for i := range puts {
		if i > 0 && compare(key(&puts[i-1]), key(&puts[i])) >= 0 {
			return nil, errors.New("is not sorted, or has a name twice")
		}
	}
	for i := range removes {
		if i > 0 && compare(removes[i-1], removes[i]) >= 0 {
			return nil, errors.New("is not sorted, or has a name twice")
		}
	}
	find := func(k K) (int, bool) {
		return slices.BinarySearchFunc(list, k, func(t T, k K) int { return compare(key(&t), k) })
	}
	for len(puts) > 0 || len(removes) > 0 {
		order := 0
		switch {
		case len(removes) == 0:
			order = -1
		case len(puts) == 0:
			order = 1
		default:
			order = compare(key(&puts[0]), removes[0])
		}
		if order == 0 {
			return nil, errors.New("has a name that it also removes")
		}
		k := func() K {
			if order < 0 {
				return key(&puts[0])
			}
			return removes[0]
		}()
		i, found := find(k)
		out = append(out, list[:i]...)
		var was *T
		if found {
			was = &list[i]
			i++
		}
		list = list[i:]
		if order < 0 {
			out = append(out, *change(was, &puts[0]))
			puts = puts[1:]
			continue
		}
		if was == nil {
			return nil, fmt.Errorf("%w: removes what is not there", ErrDrift)
		}
		change(was, nil)
		removes = removes[1:]
	}
	return append(out, list...), nil
}
