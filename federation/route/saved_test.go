package route_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// varied are worlds that between them use all that a decision reads.
func varied() map[string]*world {
	wide := func() *world {
		w := newWorld().local("az1", 3).local("az2", 2).sick("az1-0", "az1-1").
			peer("b", "gcp/x", 20*time.Millisecond, 2, 4).peer("c", "azure/y", 25*time.Millisecond, 3, 3)
		w.evidence.Targets[target("c")] = route.TargetEvidence{EjectedUntil: epoch, Reason: "5 failures in a row"}
		w.evidence.Zones = map[route.ZoneKey]route.ZoneEvidence{}
		w.service().ExportedTo = []catalog.ClusterName{"b"}
		w.table.Intentions = policy.Intentions{{
			Name: "all", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://b.test/*"}, Action: policy.Allow,
		}}
		return w
	}
	out := map[string]*world{
		"full": wide().policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 2}}).granted("b", 900, 3).granted("c", 900, 2),
	}
	for _, a := range []policy.Algorithm{policy.P2C, policy.LeastRequest, policy.RoundRobin, policy.Random, policy.Weighted} {
		out[string(a)] = wide().policy(policy.Traffic{Algorithm: a})
	}
	for _, a := range hashes {
		w := wide()
		w.policy(sticky(a, func(t *policy.Traffic) { t.Hashing = &policy.Hashing{BoundLeast: 1, MinRingSize: 1024, TableSize: 257} }))
		out[string(a)] = w
	}
	return out
}

// saved decides n times, and returns the trails with what the plans said of them.
func saved(t testing.TB, w *world, n int) (trails *route.SavedTrails, want []string) {
	t.Helper()
	p := w.compile()
	of, _ := p.Of(billing)
	trails = &route.SavedTrails{Plans: map[string]*route.SavedPlan{"gw1/1": of.Save()}}
	for i := range n {
		r := request(i)
		r.Hash = key(i % 7)
		if i%3 == 0 {
			r.Tried.Add("b", "")
			r.Again = true
		}
		pick := p.Pick
		if i%5 == 4 {
			pick = p.PickLocal
		}
		c, rec := pick(r)
		if c.Status == route.OK && i%2 == 0 { // half of them stay in progress
			c.Counters.Begin(r.NowNanos)
			if c.EndpointCounters != nil {
				c.EndpointCounters.Begin(r.NowNanos)
				c.EndpointCounters.End(r.NowNanos, time.Duration(i)*time.Microsecond, true)
			}
		}
		a := route.TrailOf(of, rec, &c)
		want = append(want, encoded(t, a.Ledger))
		a.Ledger, a.Exact = nil, false
		a.Saved = route.SaveDecision("gw1/1", &rec, &c)
		trails.Trails = append(trails.Trails, route.Trail{Cluster: own, Service: billing, Attempts: []route.TrailAttempt{a}})
	}
	return trails, want
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatWasSavedIsRepeatedWordForWord: a file has all that a decision had read.
func TestWhatWasSavedIsRepeatedWordForWord(t *testing.T) {
	for name, w := range varied() {
		t.Run(name, func(t *testing.T) {
			trails, want := saved(t, w, 200)
			file := encoded(t, trails)
			for _, secret := range []string{"spiffe://b.test/*", "intentions\":", "127.0.0.1:7444"} {
				if strings.Contains(file, secret) {
					t.Errorf("the file holds %s, which no decision reads", secret)
				}
			}
			var read route.SavedTrails
			if err := json.Unmarshal([]byte(file), &read); err != nil {
				t.Fatal(err)
			}
			done, err := read.Repeat()
			if err != nil {
				t.Fatal(err)
			}
			if done != (route.Repeated{Calls: len(want), Exact: len(want)}) {
				t.Errorf("%+v of %d", done, len(want))
			}
			for i := range want {
				if got := encoded(t, read.Trails[i].Attempts[0].Ledger); got != want[i] {
					t.Fatalf("%d: the gateway says\n%s\nthe file\n%s", i, want[i], got)
				}
			}
			// What was given another choice is told.
			read.Trails[1].Attempts[0].Saved.Chosen.Cluster = "elsewhere"
			read.Trails[1].Attempts[0].Saved.Chosen.Status = route.OK
			if done, err = read.Repeat(); err != nil || done.Inexact != 1 {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
}

func TestWhatIsNoDecisionIsRefused(t *testing.T) {
	for _, tt := range []struct{ was, is, want string }{
		{`"plan":"gw1/1"`, `"plan":"gw1/2"`, `trails[0].attempts[0].saved.plan: "gw1/2" is not among the plans`},
		{`"plans":{"gw1/1":{`, `"plans":{"gw1/1":null,"x":{`, `plans["gw1/1"]: must have a table and evidence`},
		{`"format":3`, `"format":77`, `plans["gw1/1"]: table: table format is not known: 77`},
		{`"walked":`, `"walked":1025,"was":`, `read.keys[0]: walked 1025 and pass 0 are at most 1024 and 2`},
		{`"keys":[`, `"keys":[{},{},{},`, "read.keys: has 5 entries, at most 2"},
	} {
		trails, _ := saved(t, varied()[string(policy.Maglev)], 2)
		file := encoded(t, trails)
		changed := strings.Replace(file, tt.was, tt.is, 1)
		if changed == file {
			t.Fatalf("%s is not in\n%s", tt.was, file)
		}
		var read route.SavedTrails
		if err := json.Unmarshal([]byte(changed), &read); err != nil {
			t.Fatal(err)
		}
		if _, err := read.Repeat(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.is, err, tt.want)
		}
	}
}

// FuzzRepeat: a file of anybody's ends in an answer or an error.
func FuzzRepeat(f *testing.F) {
	for _, name := range []string{string(policy.P2C), string(policy.Maglev), "full"} {
		trails, _ := saved(f, varied()[name], 3)
		b, err := json.Marshal(trails)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		var read route.SavedTrails
		if json.Unmarshal(data, &read) == nil {
			_, _ = read.Repeat() // an error is fine
		}
	})
}
