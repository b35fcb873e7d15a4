package route

import (
	"math"
	"time"
)

// terms are what a plan knows of the delay of one candidate, in nanoseconds:
//
//	delay = round trip + size/bandwidth + queueing + processing
//
// A term that is not known is 0, and no term of the sum: what is compared takes it
// from the other side, so that the unknown neither draws calls nor scares them off.
type terms struct {
	rtt float32
	// out and in are per byte, towards the candidate and back.
	out, in float32
	// processing is how long its endpoints take for a call that does not wait.
	processing float32
	// others are calls that it has in progress and that are not this gateway's.
	others float32
	// lanes is how many calls at once do not wait: its ready endpoints.
	lanes float32
	// priceOut and priceIn are what a gigabyte costs, by the policy's weight.
	priceOut, priceIn float32
}

// sizing is what one decision takes the request's size for, in bytes. mean is that
// of the service's requests, which its observed latencies are of.
type sizing struct{ out, in, mean float64 }

func (t *terms) upload(s sizing) float64 { return float64(t.out) * s.out }

func (t *terms) download(s sizing) float64 { return float64(t.in) * s.in }

// way is what of the delay is not at the service.
func (t *terms) way(s sizing) float64 { return float64(t.rtt) + t.upload(s) + t.download(s) }

// waiting is how long a call waits before its processing begins if inFlight of this
// gateway's are in progress: those that are at the service and beyond its lanes,
// each for its part of the processing. Of this gateway's calls some are still on
// the way, which is no queue: they are as many as the way is of the whole (Little's
// law), so that with k = processing/lanes, o others and a way of w, the number q at
// the service solves
//
//	q = inFlight x k(q+o+1) / (k(q+o+1) + w)
func (t *terms) waiting(inFlight, way float64) float64 {
	processing, others, lanes := float64(t.processing), float64(t.others)+1, float64(t.lanes)
	if inFlight+others <= lanes {
		return 0
	}
	if inFlight*processing/(processing+way)+others <= lanes {
		return 0
	}
	k := processing / lanes
	b := k*others + way - inFlight*k
	q := (-b + math.Sqrt(b*b+4*k*k*inFlight*others)) / (2 * k)
	return max(0, k*(q+others)-processing)
}

// predict is the delay of a call, term by term.
func (t *terms) predict(r reading, s sizing) Prediction {
	p := Prediction{
		RTT: time.Duration(t.rtt), Penalty: time.Duration(r.penalty),
		Upload: time.Duration(t.upload(s)), Download: time.Duration(t.download(s)),
	}
	if t.processing > 0 {
		p.Modelled = true
		p.Processing = time.Duration(t.processing)
		p.Queueing = time.Duration(t.waiting(float64(r.inFlight), t.way(s)))
		p.Correction = time.Duration(r.bias)
		p.First = time.Duration(t.first(r, s))
	} else {
		p.First = time.Duration(t.fallback(r, r.ewma, s))
	}
	p.Whole = p.First + p.Download
	return p
}

// first is the time to the first byte of the answer by the terms. What calls took
// beyond what was predicted for them corrects it, and failures count on top.
func (t *terms) first(r reading, s sizing) float64 {
	base := float64(t.rtt) + t.upload(s) + t.waiting(float64(r.inFlight), t.way(s)) + float64(t.processing)
	return max(base+float64(r.bias), float64(t.rtt), leastEstimate) + float64(r.penalty)
}

// fallback is the same by observed latencies alone, est x (pending + 1): the peak
// EWMA, at least the round trip, times the calls that share a lane. What it
// observed had the mean size.
func (t *terms) fallback(r reading, ewma float32, s sizing) float64 {
	e := max(float64(ewma)+float64(t.out)*(s.out-s.mean), float64(t.rtt), leastEstimate)
	return e * (1 + float64(r.inFlight)/float64(t.lanes))
}

// completion predicts how long a call of its size would take at a and at b, to its
// last byte, and what it costs.
func completion(a, b *item, ra, rb reading, s sizing) (costA, costB float64) {
	return complete(&a.terms, &b.terms, ra, rb, s), complete(&b.terms, &a.terms, rb, ra, s)
}

func complete(x, y *terms, rx, ry reading, s sizing) float64 {
	t := *x
	if t.out == 0 {
		t.out = y.out
	}
	if t.in == 0 {
		t.in = y.in
	}
	var first float64
	switch {
	case t.processing > 0:
		first = t.first(rx, s)
	case rx.known:
		first = t.fallback(rx, rx.ewma, s)
	case y.processing > 0: // nothing was called there: all but the way is the other's
		t.processing, rx.bias = y.processing, ry.bias
		first = t.first(rx, s)
	default:
		first = t.fallback(rx, ry.ewma, s)
	}
	return first + t.download(s) + t.price(s)
}

// price is what the bytes of a call cost, in nanoseconds: the price of a gigabyte in
// the proportion of its directions, by the policy's weight.
func (t *terms) price(s sizing) float64 {
	switch total := s.out + s.in; {
	case t.priceOut == 0 && t.priceIn == 0:
		return 0
	case total <= 0:
		return float64(t.priceOut+t.priceIn) / 2
	default:
		return (float64(t.priceOut)*s.out + float64(t.priceIn)*s.in) / total
	}
}

// Prediction is what a call was expected to take when it was chosen, by terms.
type Prediction struct {
	// Modelled: by the terms. Else too little was known, and First is of observed
	// latencies alone.
	Modelled bool `json:"modelled"`
	// First is the time to the first byte of the answer, Whole to its last.
	First time.Duration `json:"first_ns"`
	Whole time.Duration `json:"whole_ns"`
	RTT   time.Duration `json:"rtt_ns"`
	// Upload and Download are size over bandwidth, 0 where that is not known.
	Upload     time.Duration `json:"upload_ns"`
	Download   time.Duration `json:"download_ns"`
	Queueing   time.Duration `json:"queueing_ns"`
	Processing time.Duration `json:"processing_ns"`
	// Correction is what calls took lately beyond what the other terms say; it may be
	// less. Penalty is what failures count for.
	Correction time.Duration `json:"correction_ns"`
	Penalty    time.Duration `json:"penalty_ns"`
}
