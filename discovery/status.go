package discovery

import (
	"time"
)

// State is what can be said of a source in one word.
type State string

// The states of a source.
const (
	// Starting: nothing was read yet, and nothing was on disk.
	Starting State = "starting"
	// OK: the last read was complete, and all of it is effective.
	OK State = "ok"
	// Stale: the last complete read is old, or of an earlier process.
	Stale State = "stale"
	// Failing: reading fails; the last good snapshot is in force, if any.
	Failing State = "failing"
	// Quarantined: reading works, and the guard holds withdrawn endpoints.
	Quarantined State = "quarantined"
)

// Status is what a Runner tells of its source.
type Status struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// LastSuccess is when the last complete read ended (zero: none has), Age how
	// long ago that is.
	LastSuccess time.Time     `json:"last_success,omitzero"`
	Age         time.Duration `json:"age_ns,omitempty"`
	// Err is what went wrong since the last complete read, StoreErr why the last
	// good snapshot is not kept on disk or could not be read.
	Err      string `json:"error,omitempty"`
	StoreErr string `json:"store_error,omitempty"`
	// Services and Endpoints count what is in force, quarantined ones included.
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"`
	// Refused counts endpoints of the last read whose address is not allowed.
	Refused map[Refusal]int `json:"refused,omitempty"`
	// Quarantined are the first MaxQuarantineShown endpoints that the guard
	// holds; QuarantinedCount is their number.
	Quarantined      []Quarantine `json:"quarantined,omitempty"`
	QuarantinedCount int          `json:"quarantined_count,omitempty"`
	// Version counts the snapshots that this process has published.
	Version uint64 `json:"version"`
	// Restarts counts how often the source ended by itself.
	Restarts uint64 `json:"restarts,omitempty"`
}

// MaxQuarantineShown bounds the list in a Status.
const MaxQuarantineShown = 100

// Status tells how the source is now.
func (r *Runner) Status() Status {
	reportErr := r.observe()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.opts.Now()
	st := r.status
	if !st.LastSuccess.IsZero() {
		st.Age = max(0, now.Sub(st.LastSuccess))
	}
	err := r.err
	if err == nil {
		err = reportErr
	}
	if err != nil {
		st.Err = err.Error()
	}
	st.Services, st.Endpoints = r.published.Len(), r.published.EndpointCount()
	st.Refused = r.filter.counts()
	q := r.guard.Quarantined()
	st.QuarantinedCount = len(q)
	st.Quarantined = q[:min(len(q), MaxQuarantineShown)]
	switch {
	case err != nil:
		st.State = Failing
	case r.published == nil:
		st.State = Starting
	case !r.offered || (r.reports && st.Age > r.opts.StaleAfter):
		st.State = Stale
	case len(q) > 0:
		st.State = Quarantined
	default:
		st.State = OK
	}
	return st
}

// observe asks a Reporter and keeps what it says; a new error is logged once.
func (r *Runner) observe() error {
	reporter, ok := r.opts.Source.(Reporter)
	if !ok {
		return nil
	}
	at, err := reporter.LastRead()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = true
	if at.After(r.status.LastSuccess) {
		r.status.LastSuccess = at
	}
	text := ""
	if err != nil {
		text = err.Error()
		if text != r.reported {
			r.failed(failRead, err)
		}
	}
	r.reported = text
	return err
}
