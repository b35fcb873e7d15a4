package ca

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// SVIDs are renewed at a random moment between these fractions of their life, so
	// that the processes of a host do not renew in step. Half is the latest: consumers
	// raise an alarm soon after it.
	renewFrom, renewTo = 0.4, 0.5
	// minRenew keeps a root at its very end, whose SVIDs have no life left, from
	// issuing in a hot loop.
	minRenew = 200 * time.Millisecond
)

// view is all that a stream and a host are told. It is immutable and swapped as a
// whole.
type view struct {
	ca        *CA
	roots     roots
	bundle    []byte            // DER of the own roots
	federated map[string][]byte // DER by the trust domain's ID
	entries   []Entry
	replaced  chan struct{} // closed when there is a newer one
}

// TrustDomain implements workload.View, as do the next ones.
func (v *view) TrustDomain() string { return v.ca.cfg.TrustDomain.IDString() }

func (v *view) Bundle() []byte               { return v.bundle }
func (v *view) Federated() map[string][]byte { return v.federated }
func (v *view) Replaced() <-chan struct{}    { return v.replaced }

func (v *view) Entitled(uid uint32) bool { return len(entitled(v.entries, "", uid, v.ca.uid)) > 0 }

func (v *view) SVIDs(_ context.Context, who workload.Caller, held map[string]workload.SVID) ([]workload.SVID, error) {
	now := v.ca.now()
	var out []workload.SVID
	for _, e := range entitled(v.entries, "", who.UID, v.ca.uid) {
		svid, ok := held[e.ID.String()]
		if !ok || !now.Before(svid.Renew) {
			var err error
			if svid, err = v.ca.issue(v, e.ID, who, now); err != nil {
				return nil, err
			}
		}
		svid.Hint = e.Hint
		out = append(out, svid)
	}
	return out, nil
}

// issue mints an SVID with a key of its own for a workload of this host.
func (c *CA) issue(v *view, id spiffeid.ID, who workload.Caller, now time.Time) (workload.SVID, error) {
	failed := func(err error) (workload.SVID, error) {
		c.log.Error("svid not issued", "spiffe_id", id.String(), "err", err)
		return workload.SVID{}, status.Error(codes.Internal, "svid could not be issued")
	}
	svid, err := v.roots.mint(id, now, c.cfg.SVIDTTL)
	if err != nil {
		return failed(err)
	}
	certs, key, err := svid.MarshalRaw()
	if err != nil {
		return failed(err)
	}
	c.issued(svid.Certificates[0], id, now, "pid", who.PID)
	life := svid.Certificates[0].NotAfter.Sub(now)
	return workload.SVID{
		ID: id.String(), Certificates: certs, Key: key, Renew: now.Add(renewAfter(life, rand.Float64())),
	}, nil
}

// issued counts and logs each certificate that the CA has signed: the log is the
// record of what was handed out.
func (c *CA) issued(cert *x509.Certificate, id spiffeid.ID, now time.Time, whom ...any) {
	c.metrics.issued.Inc()
	args := append([]any{
		"spiffe_id", id.String(), "version", cert.SerialNumber.Text(16), "duration", cert.NotAfter.Sub(now),
	}, whom...)
	c.log.Info("svid issued", args...)
}

// renewAfter picks the moment of renewal in a life; r is uniform in [0, 1).
func renewAfter(life time.Duration, r float64) time.Duration {
	return max(minRenew, time.Duration(float64(life)*(renewFrom+(renewTo-renewFrom)*r)))
}
