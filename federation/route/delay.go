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
	// priceOut and priceIn are what a byte's price counts for; no part of a prediction.
	priceOut, priceIn float32
}

// sizing is what one decision takes the request's size for, in bytes. mean is that
// of the service's requests, which its observed latencies are of.
type sizing struct{ out, in, mean float64 }

func (t *terms) upload(s *sizing) float64 { return float64(t.out) * s.out }

func (t *terms) download(s *sizing) float64 { return float64(t.in) * s.in }

// queued is how long a call waits at a place that takes each of inFlight calls for
// service, lanes of them at once, if others are there besides. Of the calls in flight
// some are elsewhere on their way, which is no queue: they are as many as the way is of
// the whole (Little's law), so that with k = service/lanes, o = others + 1 and a way of
// w, the number q at the place solves
//
//	q = inFlight x k(q+o) / (k(q+o) + w)
func queued(inFlight, others, service, lanes, way float64) float64 {
	o := others + 1
	if service <= 0 || inFlight+o <= lanes || inFlight*service/(service+way)+o <= lanes {
		return 0
	}
	k := service / lanes
	b := k*o + way - inFlight*k
	q := (-b + math.Sqrt(b*b+4*k*k*inFlight*o)) / (2 * k)
	return max(0, k*(q+o)-service)
}

// waits are how long a call waits in the queues on its way: for the link, at the
// service, and for the link back. The calls before it are of mean size.
//
// What is in progress is thought to be spread over its way, which it is not after a
// burst: all of that is still before the call. So the queues are at least what was
// predicted to be left of it, and at most what there is.
func (t *terms) waits(r *reading, s *sizing) (out, service, in float64) {
	if r.inFlight <= 0 && t.others <= 0 && r.link <= 0 && r.back <= 0 {
		return 0, 0, 0
	}
	n, o, i, p := float64(r.inFlight), float64(t.out)*s.mean, float64(t.in)*s.in, float64(t.processing)
	whole := float64(t.rtt) + o + i + p
	out = max(queued(n, 0, o, 1, whole-o), float64(r.link))
	arrival := float64(t.rtt)/2 + out + t.upload(s)
	left := min(float64(r.busy)-arrival, (n+float64(t.others))*p/float64(t.lanes))
	service = max(queued(n, float64(t.others), p, float64(t.lanes), whole-p), left)
	answered := arrival + max(service, 0) + p + float64(t.rtt)/2
	return out, service, max(queued(n, 0, i, 1, whole-i), min(float64(r.back)-answered, n*i))
}

// predict is the delay of a call, term by term.
func (t *terms) predict(r *reading, s *sizing) Prediction {
	p := Prediction{
		RTT: time.Duration(t.rtt), Penalty: time.Duration(r.penalty),
		Upload: time.Duration(t.upload(s)), Download: time.Duration(t.download(s)),
	}
	if t.processing > 0 {
		out, service, in := t.waits(r, s)
		p.Modelled = true
		p.Processing = time.Duration(t.processing)
		p.Queueing = time.Duration(out + service)
		p.link, p.answer = time.Duration(out), time.Duration(t.download(s))
		p.Download += time.Duration(in)
		p.Correction = time.Duration(r.bias)
		p.First = time.Duration(t.first(r, s, out+service))
	} else {
		p.First = time.Duration(t.fallback(r, r.ewma, s))
	}
	p.Whole = p.First + p.Download
	return p
}

// first is the time to the first byte of the answer by the terms. What calls took
// beyond what was predicted for them corrects it, and failures count on top. A queue that
// was thought longer than it was makes the correction negative, and is soon gone: then
// there is nothing to be corrected but part of the processing.
func (t *terms) first(r *reading, s *sizing, waiting float64) float64 {
	base := float64(t.rtt) + t.upload(s) + waiting + float64(t.processing)
	bias := max(float64(r.bias), -waiting-float64(t.processing)/2)
	return max(base+bias, float64(t.rtt), leastEstimate) + float64(r.penalty)
}

// whole is the time to its last byte.
func (t *terms) whole(r *reading, s *sizing) float64 {
	out, service, in := t.waits(r, s)
	return t.first(r, s, out+service) + in + t.download(s)
}

// fallback is the same by observed latencies alone, est x (pending + 1): the peak
// EWMA, at least the round trip, times the calls that share a lane. What it
// observed had the mean size.
func (t *terms) fallback(r *reading, ewma float32, s *sizing) float64 {
	e := max(float64(ewma)+float64(t.out)*(s.out-s.mean), float64(t.rtt), leastEstimate)
	return e * (1 + float64(r.inFlight)/float64(t.lanes))
}

// completion predicts how long a call of its size would take at a and at b, to its
// last byte, and adds the delay that its price is worth. A price that is not known is
// 0 and is not taken from the other side: a book that says nothing of a path says that
// it is not to be avoided.
func completion(a, b *item, ra, rb *reading, s *sizing) (costA, costB float64) {
	return complete(&a.terms, &b.terms, ra, rb, s), complete(&b.terms, &a.terms, rb, ra, s)
}

func complete(x, y *terms, rx, ry *reading, s *sizing) float64 {
	t := *x
	if t.out == 0 {
		t.out = y.out
	}
	if t.in == 0 {
		t.in = y.in
	}
	price := t.worth(s)
	switch {
	case t.processing > 0:
		return t.whole(rx, s) + price
	case rx.known:
		return t.fallback(rx, rx.ewma, s) + t.download(s) + price
	case y.processing > 0: // nothing was called there: all but the way is the other's
		r := *rx
		t.processing, r.bias = y.processing, ry.bias
		return t.whole(&r, s) + price
	default:
		return t.fallback(rx, ry.ewma, s) + t.download(s) + price
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

	link   time.Duration // the part of Queueing before the link
	answer time.Duration // Download without its queue
}

// arrival is when the last byte of the request is at the target, in nanoseconds.
func (p *Prediction) arrival() int64 { return int64(p.RTT/2 + p.link + p.Upload) }
