package route

// maxTurns bounds a round-robin schedule of uneven weights: finer ratios than
// one in 1,024 are rounded. Laying out costs turns x items.
const maxTurns = 1024

// newSchedule lays out one round of nginx's smooth weighted round robin
// (ngx_http_upstream_round_robin.c): in each turn every index gains its weight,
// and the one that has most is served and pays the sum. Each occurs in
// proportion to its weight, as evenly spread as it can be. With the round laid
// out, a turn costs one atomic addition and needs no lock.
func newSchedule(weights []uint64) []int32 {
	turns := turnsOf(weights)
	var round int64
	for _, t := range turns {
		round += t
	}
	out := make([]int32, 0, round)
	if equal(weights) {
		for i := range weights {
			out = append(out, int32(i))
		}
		return out
	}
	credit := make([]int64, len(turns))
	for range round {
		best := 0
		for i, t := range turns {
			if credit[i] += t; credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= round
		out = append(out, int32(best))
	}
	return out
}

// turnsOf reduces weights to turns per round: exactly where a round of at most
// maxTurns can hold them, else in proportion, at least one each.
func turnsOf(weights []uint64) []int64 {
	var divisor, sum uint64
	for _, w := range weights {
		divisor = gcd(divisor, w)
		sum += w
	}
	turns := make([]int64, len(weights))
	if sum == 0 {
		return turns
	}
	for i, w := range weights {
		switch {
		case w == 0:
		case sum/divisor <= maxTurns:
			turns[i] = int64(w / divisor)
		default:
			turns[i] = max(int64(float64(w)/float64(sum)*maxTurns+0.5), 1)
		}
	}
	return turns
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
