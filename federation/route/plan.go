package route

// Plan is a compiled table: immutable, safe for concurrent use, and cheap to
// ask. Keep it in an atomic pointer and replace it whole.
type Plan struct {
	table *Table
}

// Compile makes a plan of a table and the evidence of one moment. live supplies
// the counters; nil means new ones. Neither t nor e is changed, and neither may
// be changed afterwards. The same input gives the same plan, whatever the order
// of the table's lists.
func Compile(t *Table, e *Evidence, live *Live) *Plan {
	_, _ = e, live
	return &Plan{table: t}
}

// Table is what the plan was compiled from.
func (p *Plan) Table() *Table { return p.table }

// Pick chooses a cluster for one request of a caller in this cluster, and the
// endpoint too where that is the own cluster. It takes no lock and allocates
// nothing.
func (p *Plan) Pick(r *Request) (Choice, Record) {
	return Choice{Status: UnknownService}, Record{request: *r}
}

// PickLocal chooses among the own cluster's endpoints for a request that came
// from a peer. It never names another cluster: a call is carried over one link
// at most, so there can be no loop.
func (p *Plan) PickLocal(r *Request) (Choice, Record) {
	return Choice{Status: UnknownService}, Record{request: *r, local: true}
}

// Explain decides on r as Pick would, from the same plan and counters, without
// taking anything (no round-robin turn, no probation), and says why.
func (p *Plan) Explain(r Request) *Ledger { return nil }

// Replay repeats the decision of a record that this plan made.
func (p *Plan) Replay(rec Record) *Ledger { return nil }

// Prune drops the counters of everything that p no longer knows.
func (l *Live) Prune(p *Plan) {}

// EvidenceFromReport rebuilds the evidence and the live counters that a gateway
// reported, so that its federation can explain the gateway's decisions.
func EvidenceFromReport(r *Report) (*Evidence, *Live) { return nil, nil }

// Fill appends the targets, endpoints and clusters of e and l to r, in order.
func (r *Report) Fill(e *Evidence, l *Live, nowNanos int64) {}

// Ledger is the ordered record of one routing decision.
type Ledger struct{}

// Readiness is how many of the own endpoints of one port are ready, as the data
// path sees it: what a gateway tells its peers on the links' control streams.
type Readiness struct {
	Target       Target
	Ready, Total uint32
}
