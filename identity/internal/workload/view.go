package workload

import (
	"context"
	"time"
)

// SVID is an X.509-SVID in the form in which it is sent.
type SVID struct {
	// ID is the SPIFFE ID, Hint what the workload is told that it is for.
	ID, Hint string
	// Certificates are DER, concatenated, leaf first; Key is PKCS#8.
	Certificates, Key []byte
	// Renew is when the stream that holds it asks for the next one; zero: when the
	// view is replaced.
	Renew time.Time
}

// View is all that streams are told at a moment. It is immutable and replaced as
// a whole.
type View interface {
	// TrustDomain is the ID of the own trust domain, Bundle its roots (DER), and
	// Federated those of others by their IDs.
	TrustDomain() string
	Bundle() []byte
	Federated() map[string][]byte
	// Entitled reports whether the user may have any SVID.
	Entitled(uid uint32) bool
	// SVIDs returns those of the user, which is entitled. held are what the same
	// stream was given last, by ID. None means that they are not there yet: the
	// stream waits for the next view.
	SVIDs(ctx context.Context, who Caller, held map[string]SVID) ([]SVID, error)
	// Replaced is closed when there is a newer view.
	Replaced() <-chan struct{}
}
