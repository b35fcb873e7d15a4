package route

import (
	"slices"
	"time"
)

// Score is what items are compared by: the predicted delay of the call, term by
// term. Where Modelled is false too little is known of the terms, and
// Predicted = max(EWMA, RTT) x (1 + InFlight/Lanes), and the download.
type Score struct {
	// EWMA is the peak EWMA of observed latencies.
	EWMA time.Duration `json:"ewma_ns"`
	// Measured is false before the first call: the estimate is then the other's.
	Measured bool          `json:"measured"`
	RTT      time.Duration `json:"rtt_ns"`
	// InFlight are this gateway's calls in progress, Others those that the target's
	// gateways carry for others; Lanes is how many at once do not wait.
	InFlight int64   `json:"in_flight"`
	Others   float64 `json:"others_in_flight,omitempty"`
	Lanes    float64 `json:"lanes"`
	Modelled bool    `json:"modelled,omitempty"`
	// RequestBytes and AnswerBytes are what the call's size was taken for, the
	// bandwidths in bytes a second; 0 is not known.
	RequestBytes float64 `json:"request_bytes,omitempty"`
	AnswerBytes  float64 `json:"answer_bytes,omitempty"`
	BandwidthOut float64 `json:"bandwidth_out_bytes_per_second,omitempty"`
	BandwidthIn  float64 `json:"bandwidth_in_bytes_per_second,omitempty"`
	// The other terms are those of Prediction.
	Upload     time.Duration `json:"upload_ns,omitempty"`
	Download   time.Duration `json:"download_ns,omitempty"`
	Queueing   time.Duration `json:"queueing_ns,omitempty"`
	Processing time.Duration `json:"processing_ns,omitempty"`
	Correction time.Duration `json:"correction_ns,omitempty"`
	Penalty    time.Duration `json:"penalty_ns,omitempty"`
	Predicted  time.Duration `json:"predicted_ns"`
	// Price is the delay that the price of the call's bytes counts for, by the policy's
	// price weight. It is compared on top of Predicted and is no part of it.
	Price time.Duration `json:"price_ns,omitempty"`
}

func scoreOf(it *item, r *reading, s *sizing) *Score {
	p := it.terms.predict(r, s)
	rate := func(perByte float32) float64 {
		if perByte <= 0 {
			return 0
		}
		return float64(time.Second) / float64(perByte)
	}
	return &Score{
		EWMA: time.Duration(r.ewma), Measured: r.known, RTT: p.RTT,
		InFlight: int64(r.inFlight), Others: float64(it.terms.others), Lanes: float64(it.terms.lanes), Modelled: p.Modelled,
		RequestBytes: s.out, AnswerBytes: s.in, BandwidthOut: rate(it.terms.out), BandwidthIn: rate(it.terms.in),
		Upload: p.Upload, Download: p.Download, Queueing: p.Queueing, Processing: p.Processing,
		Correction: p.Correction, Penalty: p.Penalty, Predicted: p.Whole,
		Price: time.Duration(it.terms.worth(s)),
	}
}

// compared is the place of item n among the readings of a small tier, which are the
// first of the record; -1 if it was not compared.
func (t *turn) compared(n int) int {
	if t.others == 0 {
		return -1
	}
	return slices.Index(t.order[:t.others+2], int32(n))
}
