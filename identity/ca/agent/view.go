package agent

import (
	"context"
	"maps"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
)

// view is what streams are told. It is immutable and swapped as a whole.
type view struct {
	agent    *Agent
	domain   string
	config   hostapi.Config
	svids    map[string]signed
	replaced chan struct{}
}

// publish makes what is current visible to streams. The caller holds mu, or is the
// only one who knows a.
func (a *Agent) publish() {
	v := &view{
		agent: a, domain: "spiffe://" + a.state.TrustDomain, config: a.state.Config,
		svids: maps.Clone(a.state.SVIDs), replaced: make(chan struct{}),
	}
	close(a.view.Swap(v).replaced)
}

// TrustDomain implements workload.View, as do the next ones.
func (v *view) TrustDomain() string { return v.domain }

func (v *view) Bundle() []byte               { return v.config.Bundle }
func (v *view) Federated() map[string][]byte { return v.config.Federated }
func (v *view) Replaced() <-chan struct{}    { return v.replaced }

func (v *view) mine(uid uint32) []hostapi.Entry {
	var out []hostapi.Entry
	seen := make(map[string]bool)
	for _, e := range v.config.Entries {
		mine := e.UID == nil && uid == v.agent.own || e.UID != nil && *e.UID == uid
		if mine && !seen[e.ID] {
			seen[e.ID] = true
			out = append(out, e)
		}
	}
	return out
}

// Entitled is true before the CA has been asked for the first time: who waits for
// its SVID must not be turned away for good by a host that has just joined.
func (v *view) Entitled(uid uint32) bool { return v.config.Version == "" || len(v.mine(uid)) > 0 }

// SVIDs gives each ID's one SVID of the host. Those that have ended are left out:
// nobody would take them.
func (v *view) SVIDs(_ context.Context, who workload.Caller, _ map[string]workload.SVID) ([]workload.SVID, error) {
	now := v.agent.now()
	var out []workload.SVID
	for _, e := range v.mine(who.UID) {
		s, ok := v.svids[e.ID]
		if !ok || !now.Before(s.NotAfter) {
			continue
		}
		out = append(out, workload.SVID{ID: e.ID, Hint: e.Hint, Certificates: s.Certificate, Key: s.Key, Renew: time.Time{}})
	}
	return out, nil
}
