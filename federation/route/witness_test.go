package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// The two witnesses of a peer: the catalog lease (control) and its links (data
// path). c is alive and in the same tier, so that what b has lost is seen.
func TestTwoWitnesses(t *testing.T) {
	for _, tt := range []struct {
		name           string
		up, lost       bool
		heard, downFor time.Duration
		want           map[string]float64
		reason         route.Reason
		total          uint64 // of the tier: is b still counted as capacity?
	}{
		{name: "data alive, control heard", up: true, want: map[string]float64{"b": 0.5, "c": 0.5}, total: 6},
		{
			name: "data alive, control lost: kept", up: true, lost: true, heard: 48 * time.Hour,
			want: map[string]float64{"b": 0.5, "c": 0.5}, total: 6,
		},
		{
			name: "data dead, control heard: out at once, still counted", downFor: time.Hour,
			want: map[string]float64{"c": 0.7, "far": 0.3}, reason: route.LinkDown, total: 6,
		},
		{
			name: "both dead: out", lost: true, heard: 35 * time.Second, downFor: 35 * time.Second,
			want: map[string]float64{"c": 0.7, "far": 0.3}, reason: route.ControlLostDataDead, total: 6,
		},
		{
			name: "both dead, link for a moment: not yet withdrawn", lost: true, heard: time.Hour, downFor: time.Second,
			want: map[string]float64{"c": 0.7, "far": 0.3}, reason: route.ControlLostDataDead, total: 6,
		},
		{
			name: "both dead for long: withdrawn", lost: true, heard: route.WithdrawAfter, downFor: time.Minute,
			want: map[string]float64{"c": 1}, reason: route.Withdrawn, total: 3,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld().peer("b", "gcp", 10*time.Millisecond, 3, 3).peer("c", "gcp", 10*time.Millisecond, 3, 3).
				peer("far", "azure", 90*time.Millisecond, 3, 3).
				policy(policy.Traffic{Algorithm: policy.Random})
			w.link("b", func(l *route.LinkEvidence) { l.Up, l.Since = tt.up, epoch.Add(-tt.downFor) })
			if tt.lost {
				w.controlLost("b", epoch.Add(-tt.heard))
			}
			p := w.compile()
			wantShare(t, count(p, 20_000, nil), tt.want, 0.015)
			l := p.Explain(*request(0))
			if got := reasons(l)["b"]; got != tt.reason {
				t.Errorf("b is excluded by %q, want %q", got, tt.reason)
			}
			if got := l.Tiers[0].Total; got != tt.total {
				t.Errorf("the tier counts %d endpoints, want %d", got, tt.total)
			}
			if kept := l.Tiers[0].Candidates[0]; tt.up && tt.lost && (!kept.ControlLost || kept.Age != tt.heard) {
				t.Errorf("the kept candidate is not stamped with its age: %+v", kept)
			}
		})
	}
}

func TestDrainingLinkTakesNothingNew(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 3, 3).peer("c", "azure", 50*time.Millisecond, 3, 3)
	w.link("b", func(l *route.LinkEvidence) { l.Up, l.Draining = false, true })
	p := w.compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"c": 1}, 0)
	if got := reasons(p.Explain(*request(0)))["b"]; got != route.LinkDraining {
		t.Errorf("b is excluded by %q", got)
	}
}

func TestNoEvidenceOfALinkIsNoLink(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 3, 3).peer("c", "azure", 50*time.Millisecond, 3, 3)
	delete(w.evidence.Links, "b")
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"c": 1}, 0)
}

// Every link dead at once: the fault is more likely here than everywhere.
func TestEverythingLooksDeadSuspectsItself(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 6, 6).peer("c", "gcp", time.Millisecond, 2, 2).
		policy(policy.Traffic{Algorithm: policy.Random})
	w.down("b", "c")
	// Long enough for both to be withdrawn, had there been another witness.
	w.controlLost("b", epoch.Add(-time.Hour)).controlLost("c", epoch.Add(-time.Hour))
	p := w.compile()
	wantShare(t, count(p, 20_000, nil), map[string]float64{"b": 0.75, "c": 0.25}, 0.015)
	c, _ := p.Pick(request(0))
	if c.Mode != route.SuspectSelf || c.Status != route.OK {
		t.Errorf("status %s, mode %s", c.Status, c.Mode)
	}
	l := p.Explain(*request(0))
	if !l.Plan.Alone || !strings.Contains(l.Why, "suspect_self") {
		t.Errorf("the ledger does not say it: %s", l.Why)
	}
	// One witness is enough not to.
	w.peer("other", "azure", time.Millisecond, 0, 0)
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"no_candidate": 1}, 0)
}

func TestSuspectingItselfDoesNotLeaveHealthyLocals(t *testing.T) {
	w := newWorld().local("az1", 2).sick("az1-0").peer("b", "gcp", time.Millisecond, 6, 6).down("b")
	c, _ := w.compile().Pick(request(0))
	if c.Target.Cluster != own || c.Mode == route.SuspectSelf {
		t.Errorf("cluster %s, mode %s", c.Target.Cluster, c.Mode)
	}
	for name := range count(w.compile(), 200, nil) {
		if name == "b" {
			t.Errorf("a dead link is chosen although a local endpoint is healthy")
		}
	}
}

func TestSuspectSelfIsOffForFailClosed(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 6, 6).down("b").policy(policy.Traffic{FailClosed: true})
	wantShare(t, count(w.compile(), 10, nil), map[string]float64{"no_candidate": 1}, 0)
}

func TestLocalHealth(t *testing.T) {
	for _, tt := range []struct {
		name     string
		health   catalog.Health
		evidence *route.EndpointEvidence
		reason   route.Reason
	}{
		{"source passes, nothing seen", catalog.Passing, nil, ""},
		{"source knows nothing, nothing seen", catalog.Unknown, nil, ""},
		{"source warns", catalog.Warning, &route.EndpointEvidence{Healthy: true}, ""},
		{"source passes, data path fails", catalog.Passing, &route.EndpointEvidence{Reason: "timeout"}, route.Unhealthy},
		{"source critical, data path works", catalog.Critical, &route.EndpointEvidence{Healthy: true}, route.SourceCritical},
		{"source in maintenance", catalog.Maintenance, nil, route.SourceMaintenance},
		{"ejected", catalog.Passing, &route.EndpointEvidence{Healthy: true, EjectedUntil: epoch.Add(time.Second)}, route.Ejected},
		{"on probation", catalog.Passing, &route.EndpointEvidence{Healthy: true, EjectedUntil: epoch}, route.OnProbation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld().local("az1", 2)
			w.service().Endpoints[0].Health = tt.health
			if tt.evidence != nil {
				w.evidence.Endpoints[endpointKey("az1-0")] = *tt.evidence
			}
			l := w.compile().Explain(*request(0))
			if got := reasons(l)["az1-0"]; got != tt.reason {
				t.Errorf("excluded by %q, want %q", got, tt.reason)
			}
			if want := uint64(2); tt.reason == "" && l.Tiers[0].Ready != want || tt.reason != "" && l.Tiers[0].Ready != want-1 {
				t.Errorf("%d are ready", l.Tiers[0].Ready)
			}
		})
	}
}
