package route

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// SavedPlan is what the plan of one service was compiled from, to be kept in a file
// and compiled again anywhere. It holds nothing that a decision does not read: no
// intentions, and of peers neither bundles nor gateways.
type SavedPlan struct {
	Table *Table `json:"table"`
	// Evidence is in the form of a report, without its counters: what a decision read
	// of those is in its record.
	Evidence *Report `json:"evidence"`
}

// Save is what a plan of one service (Plan.Of) was compiled from.
func (p *Plan) Save() *SavedPlan {
	t := *p.table
	t.Intentions, t.Federation, t.Joining = nil, "", false
	t.Peers = slices.Clone(t.Peers)
	for i := range t.Peers {
		peer := &t.Peers[i]
		peer.Gateways, peer.Bundle, peer.Asserts, peer.MaxPriority = nil, nil, nil, ""
	}
	r := &Report{
		Epoch: t.Epoch, Version: t.Version,
		At: p.evidence.Now, Locality: p.evidence.Self, Switches: p.evidence.Switches,
	}
	r.Fill(p.evidence, NewLive(), 0)
	r.Ports = nil
	for k, d := range p.evidence.Demands { // also of ports that no gateway reports
		if p.of(k.Service) != nil {
			r.Ports = append(r.Ports, PortReport{k, d})
		}
	}
	slices.SortFunc(r.Ports, func(a, b PortReport) int { return a.Compare(b.PortKey) })
	return &SavedPlan{Table: &t, Evidence: r}
}

// Compile makes the plan again.
func (s *SavedPlan) Compile() (*Plan, error) {
	if s.Table == nil || s.Evidence == nil {
		return nil, errors.New("must have a table and evidence")
	}
	if err := s.Table.Validate(); err != nil {
		return nil, err
	}
	e, _ := EvidenceFromReport(s.Evidence)
	return Compile(s.Table, e, NewLive()), nil
}

// SavedDecision is what a decision had read besides its plan, and what it gave.
type SavedDecision struct {
	// Plan names the plan, among those that are saved with the decision.
	Plan   string      `json:"plan"`
	Read   SavedRecord `json:"read"`
	Chosen SavedChoice `json:"chosen"`
}

// SavedChoice is what the call was really given.
type SavedChoice struct {
	Status   Status              `json:"status"`
	Mode     Mode                `json:"mode"`
	Cluster  catalog.ClusterName `json:"cluster,omitempty"`
	Service  catalog.ServiceName `json:"service,omitzero"`
	Port     catalog.Port        `json:"port,omitzero"`
	Endpoint string              `json:"endpoint,omitempty"`
}

func savedChoice(c *Choice) SavedChoice {
	out := SavedChoice{Status: c.Status, Mode: c.Mode}
	if c.Status == OK {
		out.Cluster, out.Service, out.Port = c.Target.Cluster, c.Name, c.Port
	}
	if c.Status == OK && c.Endpoint != nil {
		out.Endpoint = c.Endpoint.ID
	}
	return out
}

// SavedRecord is a Record in JSON: what was asked, and what was read of counters. Numbers of 64 bits that stand for patterns are
// texts, which other languages read exactly.
type SavedRecord struct {
	Service  catalog.ServiceName `json:"service"`
	Port     string              `json:"port,omitempty"`
	Pin      catalog.ClusterName `json:"pin,omitempty"`
	Subset   string              `json:"subset,omitempty"`
	Hash     uint64              `json:"hash,omitempty,string"`
	Tried    []SavedTried        `json:"tried,omitempty"`
	Again    bool                `json:"again,omitempty"`
	Priority Priority            `json:"priority"`
	Bytes    int64               `json:"bytes,omitempty"`
	Random   uint64              `json:"random,string"`
	At       time.Time           `json:"at"`
	Inbound  bool                `json:"inbound,omitempty"`

	Counters []SavedReading `json:"counters,omitempty"`
	// Sizes are the bytes that it counted with: out, in, and the mean out.
	Sizes  []float64   `json:"sizes,omitempty"`
	Turns  []uint64    `json:"turns,omitempty"`
	Keys   []SavedHash `json:"keys,omitempty"`
	Probe  uint8       `json:"probe,omitempty"`
	Drill  DrillSide   `json:"drill,omitempty"`
	Spared uint8       `json:"spared,omitempty"`
	// Full are the answers to "is there no slot left?", in order.
	Full []bool `json:"full,omitempty"`
}

// SavedTried is an attempt before.
type SavedTried struct {
	Cluster  catalog.ClusterName `json:"cluster"`
	Endpoint string              `json:"endpoint,omitempty"`
}

// SavedReading is a look at the counters of a candidate or endpoint; times are in
// nanoseconds.
type SavedReading struct {
	Known    bool    `json:"known"`
	EWMA     float32 `json:"ewma_ns"`
	Bias     float32 `json:"bias_ns,omitempty"`
	Penalty  float32 `json:"penalty_ns,omitempty"`
	Link     float32 `json:"link_ns,omitempty"`
	Busy     float32 `json:"busy_ns,omitempty"`
	Back     float32 `json:"back_ns,omitempty"`
	InFlight int32   `json:"in_flight"`
}

// SavedHash is a draw by a key.
type SavedHash struct {
	Taken  int32  `json:"taken"`
	Walked uint32 `json:"walked"`
	Pass   uint8  `json:"pass"`
	Total  int64  `json:"in_progress"`
	Load   int64  `json:"load"`
}

// SaveDecision keeps a decision of a plan that is saved under that name.
func SaveDecision(plan string, rec *Record, c *Choice) *SavedDecision {
	q := &rec.request
	s := SavedRecord{
		Service: q.Service, Port: q.Port, Pin: q.Pin, Subset: q.Subset, Hash: q.Hash, Again: q.Again,
		Priority: q.Priority, Bytes: q.Bytes, Random: q.Random, At: time.Unix(0, q.NowNanos).UTC(), Inbound: rec.local,
		Turns: slices.Clone(rec.turns[:rec.turned]), Probe: rec.probe, Drill: rec.drill, Spared: uint8(rec.spared),
	}
	for x := q.Tried.last; x != nil; x = x.before {
		s.Tried = append(s.Tried, SavedTried{x.cluster, x.endpoint})
	}
	slices.Reverse(s.Tried)
	for _, r := range rec.reads[:rec.read] {
		s.Counters = append(s.Counters, SavedReading{r.known, r.ewma, r.bias, r.penalty, r.link, r.busy, r.back, r.inFlight})
	}
	if rec.sized {
		s.Sizes = []float64{rec.sizing.out, rec.sizing.in, rec.sizing.mean}
	}
	for _, h := range rec.hashes[:rec.hashed] {
		s.Keys = append(s.Keys, SavedHash{h.taken, h.walked, h.pass, h.total, h.load})
	}
	for i := range rec.asked {
		s.Full = append(s.Full, rec.fulls[i/64]>>(i%64)&1 == 1)
	}
	return &SavedDecision{Plan: plan, Read: s, Chosen: savedChoice(c)}
}

// record reads the decision back. What no decision of this program can have read is an
// error: a newer one may read more.
func (s *SavedRecord) record() (rec Record, err error) {
	for _, list := range []struct {
		field   string
		n, most int
	}{
		{"tried", len(s.Tried), MaxTried},
		{"counters", len(s.Counters), maxReads},
		{"turns", len(s.Turns), maxTurnsTaken},
		{"keys", len(s.Keys), maxTurnsTaken},
		{"full", len(s.Full), maxAsked},
	} {
		if list.n > list.most {
			return rec, fmt.Errorf("read.%s: has %d entries, at most %d", list.field, list.n, list.most)
		}
	}
	if n := len(s.Sizes); n != 0 && n != 3 {
		return rec, fmt.Errorf("read.sizes: has %d entries, must be 3", n)
	}
	rec.request = Request{
		Service: s.Service, Port: s.Port, Pin: s.Pin, Subset: s.Subset, Hash: s.Hash, Again: s.Again,
		Priority: s.Priority, Bytes: s.Bytes, Random: s.Random, NowNanos: s.At.UnixNano(),
	}
	for _, x := range s.Tried {
		rec.request.Tried.Add(x.Cluster, x.Endpoint)
	}
	rec.local, rec.probe, rec.drill, rec.spared = s.Inbound, s.Probe, s.Drill, sparing(s.Spared)
	for i, r := range s.Counters {
		rec.reads[i] = reading{
			known: r.Known, ewma: r.EWMA, bias: r.Bias, penalty: r.Penalty, link: r.Link, busy: r.Busy, back: r.Back, inFlight: r.InFlight,
		}
	}
	rec.read = uint8(len(s.Counters))
	if len(s.Sizes) == 3 {
		rec.sizing, rec.sized = sizing{out: s.Sizes[0], in: s.Sizes[1], mean: s.Sizes[2]}, true
	}
	rec.turned = uint8(copy(rec.turns[:], s.Turns))
	for i, h := range s.Keys {
		if h.Walked > maxWalk || h.Pass > passAny {
			return rec, fmt.Errorf("read.keys[%d]: walked %d and pass %d are at most %d and %d", i, h.Walked, h.Pass, maxWalk, passAny)
		}
		rec.hashes[i] = hashDraw{taken: h.Taken, walked: h.Walked, pass: h.Pass, total: h.Total, load: h.Load}
	}
	rec.hashed = uint8(len(s.Keys))
	for i, full := range s.Full {
		if full {
			rec.fulls[i/64] |= 1 << (i % 64)
		}
	}
	rec.asked = uint16(len(s.Full))
	return rec, nil
}

// SavedTrails are trails whose decisions can be repeated, and the plans that those were
// made by.
type SavedTrails struct {
	Trails []Trail               `json:"trails"`
	Plans  map[string]*SavedPlan `json:"plans,omitempty"`
}

// Repeated says how many decisions came out as they were made.
type Repeated struct {
	Calls int `json:"calls"`
	// Exact and Inexact are decisions; Unsaved are those that were not saved with what
	// they had read, and were not repeated.
	Exact   int `json:"exact"`
	Inexact int `json:"inexact"`
	Unsaved int `json:"unsaved"`
}

// Repeat makes every decision again, by this program's code: Ledger and Exact of
// attempts are then those of the repetition. An error says what in the saved form is
// no decision.
func (s *SavedTrails) Repeat() (done Repeated, err error) {
	plans := make(map[string]*Plan, len(s.Plans))
	for name, saved := range s.Plans {
		if saved == nil {
			return done, fmt.Errorf("plans[%q]: must have a table and evidence", name)
		}
		if plans[name], err = saved.Compile(); err != nil {
			return done, fmt.Errorf("plans[%q]: %w", name, err)
		}
	}
	for i := range s.Trails {
		done.Calls++
		for k := range s.Trails[i].Attempts {
			a := &s.Trails[i].Attempts[k]
			if a.Saved == nil {
				done.Unsaved++
				continue
			}
			at := func(err error) error { return fmt.Errorf("trails[%d].attempts[%d].saved.%w", i, k, err) }
			plan := plans[a.Saved.Plan]
			if plan == nil {
				return done, at(fmt.Errorf("plan: %q is not among the plans", a.Saved.Plan))
			}
			rec, err := a.Saved.Read.record()
			if err != nil {
				return done, at(err)
			}
			a.Ledger = plan.Replay(rec)
			if a.Exact = a.Ledger.chose(&a.Saved.Chosen); a.Exact {
				done.Exact++
			} else {
				done.Inexact++
			}
		}
	}
	return done, nil
}

// chose reports whether a repeated decision gave what the real one did.
func (l *Ledger) chose(c *SavedChoice) bool {
	if l.Status != c.Status || l.Mode != c.Mode {
		return false
	}
	if c.Status != OK {
		return true
	}
	is := l.Choice
	return is != nil && is.Cluster == c.Cluster && is.Endpoint == c.Endpoint && is.Service == c.Service && is.Port == c.Port
}
