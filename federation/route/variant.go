package route

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// variant is a port seen by some calls only: those to a subset, or those with a key
// from a peer where the own policy hashes nothing.
type variant struct {
	// subset is the canonical text of its labels, "" for the whole service.
	subset string
	hash   bool
}

// variants are those of one port that calls have asked for so far.
type variants struct {
	mu   sync.Mutex
	made atomic.Pointer[map[variant]*portPlan]
}

// maxVariants bounds what one port keeps: the subsets of a policy, and as many that
// peers name. Beyond it all are made anew.
const maxVariants = 4 * policy.MaxSubsets

// variant returns the port as a variant sees it, compiled when it is first asked for.
func (p *Plan) variant(sp *servicePlan, pp *portPlan, v variant) *portPlan {
	if v == (variant{}) {
		return pp
	}
	if made := pp.variants.made.Load(); made != nil {
		if found := (*made)[v]; found != nil {
			return found
		}
	}
	pp.variants.mu.Lock()
	defer pp.variants.mu.Unlock()
	made := pp.variants.made.Load()
	if made != nil {
		if found := (*made)[v]; found != nil {
			return found
		}
	}
	next := make(map[variant]*portPlan)
	if made != nil && len(*made) < maxVariants {
		maps.Copy(next, *made)
	}
	v.subset = strings.Clone(v.subset) // of a header that holds more
	found := p.compileVariant(sp, pp.port, v)
	next[v] = found
	pp.variants.made.Store(&next)
	return found
}

func (p *Plan) compileVariant(sp *servicePlan, port catalog.Port, v variant) *portPlan {
	c := &compiler{table: p.table, evidence: p.evidence, live: p.live, plan: p}
	as := *sp
	if v.hash && !as.traffic.Algorithm.Hashes() {
		t := *as.traffic
		t.Algorithm = policy.Maglev
		as.traffic = new(t.Filled())
	}
	p.live.mu.Lock()
	defer p.live.mu.Unlock()
	c.subset = newSelector(v.subset)
	made := c.port(&as, port)
	return &made
}

// selector is the labels that endpoints must have; nil takes all.
type selector struct {
	text   string
	labels map[string]string
}

func newSelector(text string) *selector {
	if text == "" {
		return nil
	}
	labels, err := catalog.ParseSubset(text)
	if err != nil {
		return &selector{text: text} // takes none
	}
	return &selector{text: text, labels: labels}
}

// name tells what is compiled of a subset apart from the whole.
func (s *selector) name() string {
	if s == nil {
		return ""
	}
	return "[" + s.text + "]"
}

func (s *selector) takes(labels map[string]string) bool {
	if s == nil {
		return true
	}
	if len(s.labels) == 0 {
		return false
	}
	for k, v := range s.labels {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// takesRow reports whether the endpoints of a summary's row are of the subset.
func (s *selector) takesRow(subset string) bool {
	if s == nil {
		return true
	}
	labels, err := catalog.ParseSubset(subset)
	return err == nil && s.takes(labels)
}

// offers reports whether peers may ask for a subset: by labels that exports publish,
// and none else.
func (s *Service) offers(subset string) bool {
	labels, err := catalog.ParseSubset(subset)
	if err != nil {
		return false
	}
	for k := range labels {
		if !slices.Contains(s.SubsetLabels, k) {
			return false
		}
	}
	return true
}

// choosePort picks the variant of the port that the request is for, and the subset of
// the policy, if it is one. A call that names none is drawn by the weights.
func (p *Plan) choosePort(d *decision, rec *Record, rnd *draws) {
	req := &rec.request
	t := d.service.traffic
	if rec.local {
		v := variant{subset: req.Subset, hash: req.Hash != 0 && !t.Algorithm.Hashes()}
		if v.subset != "" && !d.service.service.offers(v.subset) {
			d.status = NoCandidate
			d.layout = &nowhere
			return
		}
		d.port = p.variant(d.service, d.port, v)
		d.layout = d.port.far
		return
	}
	d.layout = d.port.near
	if t.Subsets == nil {
		return
	}
	if d.subset, d.subsetNamed = d.service.subset(rec, rnd); d.subset < 0 {
		return
	}
	whole := d.port
	d.port = p.variant(d.service, d.port, variant{subset: d.service.subsets[d.subset].text})
	d.layout = d.port.near
	if t.Subsets.FallbackAny && d.layout.loaded < 0 {
		d.port, d.layout, d.subsetMissed = whole, whole.near, true
	}
}

// nowhere has no candidates.
var nowhere = layout{loaded: -1}

// subsetPlan is a subset of the policy.
type subsetPlan struct {
	name, text string
	weight     uint64
}

// subset returns the subset that a call is for, -1 for the whole service.
func (s *servicePlan) subset(rec *Record, rnd *draws) (i int, named bool) {
	if name := rec.request.Subset; name != "" {
		for i := range s.subsets {
			if s.subsets[i].name == name {
				return i, true
			}
		}
	}
	if s.subsetSum == 0 {
		return -1, false
	}
	var x uint64
	if sticks(s.traffic, rec) {
		x = scale(mix(rec.request.Hash^saltSubset), s.subsetSum)
	} else {
		x = scale(rnd.next(), s.subsetSum)
	}
	for i := range s.subsets {
		if x < s.subsets[i].weight {
			return i, false
		}
		x -= s.subsets[i].weight
	}
	return -1, false
}

func (s *servicePlan) fillSubsets() {
	if s.traffic.Subsets == nil {
		return
	}
	for i := range s.traffic.Subsets.List {
		x := &s.traffic.Subsets.List[i]
		s.subsets = append(s.subsets, subsetPlan{name: x.Name, text: x.Text(), weight: uint64(x.Weight)})
		s.subsetSum += uint64(x.Weight)
	}
}
