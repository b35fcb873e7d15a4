package route_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// What follows is a second oracle, of those who know everything that has happened up to
// now, at once and exactly, and nothing that is still to come: the speed of machines and
// paths at this moment, every call in progress, of whomever, and how far it has come, and
// how sizes and work are distributed. How much work is left of a call is known to nobody
// before it is done, neither of those in progress nor of the one that is to be sent; nor
// are sizes that are not told. No gateway knows that much.

// job is one call on its way through a site.
type job struct {
	sends, sent      float64 // when the link begins with it, and has sent it
	arrived          float64
	begun, processed float64
	answers          span
	server           int
	own              bool
}

// tail is values in ascending order with the sums of those from each on.
type tail struct{ values, sums []float64 }

func newTail(values []float64) *tail {
	t := &tail{values: slices.Sorted(slices.Values(values))}
	t.sums = make([]float64, len(t.values)+1)
	for i, v := range slices.Backward(t.values) {
		t.sums[i] = t.sums[i+1] + v
	}
	return t
}

// beyond is how much is still to be expected of a value of which x has been seen.
func (t *tail) beyond(x float64) float64 {
	i, _ := slices.BinarySearch(t.values, x)
	if i == len(t.values) {
		return 0
	}
	return t.sums[i]/float64(len(t.values)-i) - x
}

// prior is what is known of calls before they come.
type prior struct {
	mean   demand
	out    *tail // sizes of requests
	weight *tail
	theirs []*tail // work of others, by site
	told   bool    // requests tell their size
}

func (sc *scene) prior(seed uint64, mean demand) *prior {
	p := &prior{mean: mean, told: !sc.unsized}
	var out, weights []float64
	for d := range sc.demands(rand.New(rand.NewPCG(seed, 1))) {
		out, weights = append(out, d.out), append(weights, d.weight)
	}
	p.out, p.weight = newTail(out), newTail(weights)
	for i := range sc.sites {
		theirs := p.weight
		if recorded := sc.sites[i].recorded; recorded != nil {
			var list []float64
			for _, d := range recorded {
				list = append(list, d.weight)
			}
			theirs = newTail(list)
		}
		p.theirs = append(p.theirs, theirs)
	}
	return p
}

// expect is when a call may be expected to be over, by what is known at its time.
func (s *siteState) expect(site int, d demand, p *prior) float64 {
	now, half := d.at, s.rtt(d.at)/2
	s.jobs = slices.DeleteFunc(s.jobs, func(j job) bool { return j.processed < now && j.answers.end < now })
	// The link: of what is not told only the rest of a mean is known.
	rate, size, free := s.out(now), d.out, max(now, s.freeOut)
	if !p.told {
		size, free = p.mean.out, now
		for i := range s.jobs {
			switch j := &s.jobs[i]; {
			case !j.own || j.sent <= now:
			case j.sends <= now:
				free += p.out.beyond((now-j.sends)*rate) / rate
			default:
				free += p.mean.out / rate
			}
		}
	}
	arrived := free + size/rate + half
	// The servers, each with what is in it and what waits for it.
	work := s.processing(now)
	frees := make([]float64, s.servers)
	for i := range frees {
		frees[i] = now
	}
	type answer struct{ ready, took float64 }
	var answers []answer
	var back []span
	slices.SortStableFunc(s.jobs, func(a, b job) int { return cmp.Compare(a.begun, b.begun) })
	for i := range s.jobs {
		j := &s.jobs[i]
		if j.processed > now {
			weights, end := p.weight, &frees[j.server]
			if !j.own {
				weights = p.theirs[site]
			}
			if j.begun <= now {
				*end = max(*end, now+work*weights.beyond((now-j.begun)/work))
			} else {
				*end = max(*end, j.arrived) + work*weights.beyond(0)
			}
			if j.own {
				answers = append(answers, answer{*end, p.mean.in / s.in(now)})
			}
		} else if j.own {
			back = append(back, j.answers)
		}
	}
	ready := max(arrived, slices.Min(frees)) + work*p.mean.weight
	// The link back: answers that are ready are known, the others come as expected.
	est := siteState{site: s.site, back: back}
	insert := func(a answer) float64 {
		end := est.answer(a.ready, a.took)
		at, _ := slices.BinarySearchFunc(est.back, end, func(x span, t float64) int { return cmp.Compare(x.end, t) })
		est.back = slices.Insert(est.back, at, span{end - a.took, end})
		return end
	}
	slices.SortFunc(est.back, func(a, b span) int { return cmp.Compare(a.end, b.end) })
	slices.SortFunc(answers, func(a, b answer) int { return cmp.Compare(a.ready, b.ready) })
	for _, a := range answers {
		if a.ready <= ready {
			insert(a)
		}
	}
	return insert(answer{ready, p.mean.in / s.in(now)}) + half
}
