package doctor_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/doctor"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// healthy is a federation with nothing to tell.
func healthy() doctor.Facts {
	later := now.Add(time.Hour)
	return doctor.Facts{
		Trust: resource.Trust{
			TrustDomain: "a.test", SVID: resource.SVID{ID: "spiffe://a.test/x", NotAfter: later},
			Authorities: []resource.Authority{
				{TrustDomain: "a.test", KeyID: "aa11", NotAfter: now.Add(500 * time.Hour), Users: []resource.TrustUser{
					{Kind: "federation", Name: "a", Authority: "aa11", NotAfter: later},
					{Kind: "gateway", Name: "gw1", Authority: "aa11", NotAfter: later},
				}},
				{TrustDomain: "b.test", KeyID: "bb22", NotAfter: now.Add(50 * time.Hour), Users: []resource.TrustUser{
					{Kind: "link", Name: "b/gw1", Via: "gw1", Authority: "bb22", NotAfter: later},
				}},
				{TrustDomain: "b.test", KeyID: "bb33", NotAfter: now.Add(500 * time.Hour)},
			},
		},
		Peers: []resource.Peer{{
			Name: "b", TrustDomain: "b.test", State: resource.PeerOK,
			Trust: &resource.PeerTrust{Held: true, From: "endpoint", Sequence: 7, Endpoint: &resource.EndpointStatus{URL: "https://b.test/", State: "ok"}},
		}},
		Ready:    resource.Readiness{Ready: true},
		Gateways: []resource.Gateway{{Name: "gw1", State: "alive", Links: 2, LinksUp: 2}},
		Sources:  []resource.Source{{Name: "consul", State: "ok", LastSuccess: now.Add(-time.Second)}},
	}
}

func TestHealthyFederationHasOnlyGoodVerdicts(t *testing.T) {
	verdicts := doctor.Judge(healthy(), now)
	for _, v := range verdicts {
		if v.Grade != doctor.OK || v.Fix != "" || v.Subject == "" || v.Finding == "" {
			t.Errorf("%+v", v)
		}
	}
	if doctor.Failed(verdicts) || len(verdicts) != 10 {
		t.Errorf("%d verdicts: %+v", len(verdicts), verdicts)
	}
}

func TestEachTroubleHasItsVerdictAndFix(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*doctor.Facts)
		grade   doctor.Grade
		subject string
		finding string
	}{
		"no svid":      {func(f *doctor.Facts) { f.Trust.SVID.NotAfter = time.Time{} }, doctor.Fail, "own svid", "there is none"},
		"expired svid": {func(f *doctor.Facts) { f.Trust.SVID.NotAfter = now.Add(-time.Minute) }, doctor.Fail, "own svid", "ended 1m0s ago"},
		"late svid":    {func(f *doctor.Facts) { f.Trust.SVID.NotAfter = now.Add(time.Minute) }, doctor.Warn, "own svid", "ends in 1m0s"},
		"a gateway's late svid": {func(f *doctor.Facts) {
			f.Trust.Authorities[0].Users[1].NotAfter = now.Add(time.Minute)
		}, doctor.Warn, "gateway gw1 svid", "ends in"},
		"a peer's expired certificate": {func(f *doctor.Facts) {
			f.Trust.Authorities[1].Users[0].NotAfter = now.Add(-time.Minute)
		}, doctor.Fail, "link b/gw1 (by gw1) svid", "ended"},
		"a link below no known root": {func(f *doctor.Facts) {
			f.Trust.Unplaced = []resource.TrustUser{{Kind: "link", Name: "b/gw2", Via: "gw1", Authority: "ff"}}
		}, doctor.Warn, "link b/gw2 (by gw1)", "hangs below no root"},
		"a peer's federation below no root": {func(f *doctor.Facts) {
			f.Trust.Unplaced = []resource.TrustUser{{Kind: "peer", Name: "b"}}
		}, doctor.Fail, "peer b", "hangs below no root"},
		"last root ends soon": {func(f *doctor.Facts) {
			f.Trust.Authorities[2].NotAfter, f.Trust.Authorities[1].NotAfter = now.Add(time.Hour), now.Add(time.Hour)
		}, doctor.Warn, "bundle of b.test", "ends in 1h0m0s"},
		"every root has ended": {func(f *doctor.Facts) {
			f.Trust.Authorities[2].NotAfter, f.Trust.Authorities[1].NotAfter = now.Add(-time.Hour), now.Add(-time.Hour)
		}, doctor.Fail, "bundle of b.test", "every root has ended"},
		"not ready": {func(f *doctor.Facts) {
			f.Ready = resource.Readiness{Reasons: []string{"store: store takes no writes"}}
		}, doctor.Fail, "federation", "store takes no writes"},
		"degraded": {func(f *doctor.Facts) {
			f.Ready.Degraded = []string{"store.db was damaged"}
		}, doctor.Warn, "federation", "store.db was damaged"},
		"no bundle":        {func(f *doctor.Facts) { f.Peers[0].Trust.Held = false }, doctor.Fail, "peer b", "no bundle of b.test"},
		"bundle refused":   {func(f *doctor.Facts) { f.Peers[0].Trust.Error = "goes back" }, doctor.Warn, "peer b", "refused: goes back"},
		"endpoint failing": {func(f *doctor.Facts) { f.Peers[0].Trust.Endpoint.State = "failing" }, doctor.Warn, "peer b", "endpoint https://b.test/ fails"},
		"control lost":     {func(f *doctor.Facts) { f.Peers[0].State = resource.PeerControlLost }, doctor.Warn, "peer b", "control_lost"},
		"silent gateway":   {func(f *doctor.Facts) { f.Gateways[0].State = "silent" }, doctor.Fail, "gateway gw1", "silent"},
		"link down":        {func(f *doctor.Facts) { f.Gateways[0].LinksUp = 1 }, doctor.Warn, "gateway gw1", "1 of 2"},
		"no gateway":       {func(f *doctor.Facts) { f.Gateways = nil }, doctor.Fail, "gateways", "none has reported"},
		"silent source":    {func(f *doctor.Facts) { f.Sources[0].LastSuccess = time.Time{} }, doctor.Fail, "source consul", "nothing read yet"},
		"failing source":   {func(f *doctor.Facts) { f.Sources[0].State = "failing" }, doctor.Warn, "source consul", "failing"},
		"stale source":     {func(f *doctor.Facts) { f.Sources[0].LastSuccess = now.Add(-time.Hour) }, doctor.Warn, "source consul", "1h0m0s ago"},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.change(&f)
			verdicts := doctor.Judge(f, now)
			found := slices.ContainsFunc(verdicts, func(v doctor.Verdict) bool {
				return v.Grade == c.grade && v.Subject == c.subject && strings.Contains(v.Finding, c.finding) && v.Fix != ""
			})
			if !found || doctor.Failed(verdicts) != (c.grade == doctor.Fail) {
				t.Errorf("want %s of %s with %q and a fix in %+v", c.grade, c.subject, c.finding, verdicts)
			}
		})
	}
}

func TestWithoutARoot(t *testing.T) {
	trust := healthy().Trust
	for _, c := range []struct {
		key     string
		grade   doctor.Grade
		finding string
	}{
		{"aa11", doctor.Fail, "2 would break if it left now: federation a, gateway gw1"},
		{"BB2", doctor.Fail, "1 would break if it left now: link b/gw1 (by gw1)"},
		{"bb33", doctor.OK, "it could leave now"},
	} {
		v, err := doctor.Without(trust, c.key)
		if err != nil || v.Grade != c.grade || !strings.Contains(v.Finding, c.finding) || (v.Fix == "") != (c.grade == doctor.OK) {
			t.Errorf("%s: %+v, %v", c.key, v, err)
		}
	}
	for _, key := range []string{"", "bb", "cc"} {
		if v, err := doctor.Without(trust, key); err == nil {
			t.Errorf("%q: %+v", key, v)
		}
	}
	trust.Authorities[0].Users = nil
	if v, err := doctor.Without(trust, "aa11"); err != nil || v.Grade != doctor.Fail || !strings.Contains(v.Finding, "only root") {
		t.Errorf("the only root: %+v, %v", v, err)
	}
}
