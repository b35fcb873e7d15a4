package resource

import "time"

// PeerTrust is what is held of the bundle of a peer's trust domain.
type PeerTrust struct {
	// Held is false where no link to the peer can come up: nobody has told its
	// roots.
	Held        bool      `json:"held"`
	From        string    `json:"from,omitempty" doc:"Where the bundle in force comes from: file, exchange, endpoint or workload_api."`
	Sequence    uint64    `json:"sequence,omitempty"`
	Authorities int       `json:"authorities,omitempty" doc:"X.509 roots in it."`
	UpdatedAt   time.Time `json:"updated_at,omitzero" doc:"When its content last changed."`
	TakenAt     time.Time `json:"taken_at,omitzero" doc:"When a document was last taken."`
	// Error says why the last document was refused; the one before stays in force.
	Error    string          `json:"error,omitempty"`
	Endpoint *EndpointStatus `json:"endpoint,omitempty"`
}

// EndpointStatus is the bundle endpoint that is followed.
type EndpointStatus struct {
	URL     string `json:"url"`
	Profile string `json:"profile" enum:"https_spiffe,https_web"`
	// State is "starting" before the first answer, "failing" while the last fetch
	// failed.
	State     string    `json:"state" enum:"starting,ok,failing"`
	FetchedAt time.Time `json:"fetched_at,omitzero" doc:"The last good answer."`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	NextAt    time.Time `json:"next_at,omitzero"`
	Failures  int       `json:"failures,omitempty" doc:"Failed fetches since the last good answer."`
	Error     string    `json:"error,omitempty"`
}

// AsOf is b with the times and counts of o: what moves without anything having
// happened.
func (b *PeerTrust) AsOf(o *PeerTrust) *PeerTrust {
	c := *b
	c.TakenAt = o.TakenAt
	if b.Endpoint != nil && o.Endpoint != nil {
		e := *b.Endpoint
		e.FetchedAt, e.CheckedAt, e.NextAt, e.Failures = o.Endpoint.FetchedAt, o.Endpoint.CheckedAt, o.Endpoint.NextAt, o.Endpoint.Failures
		c.Endpoint = &e
	}
	return &c
}
