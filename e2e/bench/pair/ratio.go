package main

import (
	"fmt"
	"slices"
)

// spread is what rounds gave: the middle one, the least and the greatest.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	half := len(v) / 2
	s := spread{Median: v[half], Min: v[0], Max: v[len(v)-1], Rounds: len(v)}
	if len(v)%2 == 0 {
		s.Median = (v[half-1] + v[half]) / 2
	}
	return s
}

// ratio is a spread of ratios: nothing where no round had both figures.
func (s spread) ratio() string {
	if s.Rounds == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f..%.2f)", s.Median, s.Min, s.Max)
}

// figures are one figure of a workload through a peer, by round.
func figures(samples []sample, workload, peer, figure string) map[int]float64 {
	found := map[int]float64{}
	for _, s := range samples {
		if v, ok := s.Figures[figure]; ok && s.Workload == workload && s.Peer == peer {
			found[s.Round] = v
		}
	}
	return found
}

// ratios divides what two peers did in the same round, for each round that has both. A
// divisor of nothing says nothing, and is left out.
func ratios(of, by map[int]float64) []float64 {
	var all []float64
	for round, v := range of {
		if d := by[round]; d > 0 {
			all = append(all, v/d)
		}
	}
	return all
}

func values(of map[int]float64) []float64 {
	var all []float64
	for _, v := range of {
		all = append(all, v)
	}
	return all
}
