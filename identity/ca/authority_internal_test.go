package ca

import (
	"crypto/x509"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

var testDomain = spiffeid.RequireTrustDomainFromString("a.test")

// Roots over years, with a CA that sleeps now and then: there is always a signer, no
// SVID outlives it, the bundle never loses a root that has unexpired SVIDs, the
// number of a changed bundle grows, and a root is published well before it signs.
func TestRootsRotateOverYears(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svidTTL := time.Duration(rapid.Int64Range(int64(2*time.Second), int64(MaxSVIDTTL)).Draw(t, "svid_ttl"))
		factor := rapid.Int64Range(rootToSVID, 1000).Draw(t, "ca_ttl")
		cfg := Config{TrustDomain: testDomain, SVIDTTL: svidTTL, CATTL: time.Duration(factor) * svidTTL}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var r roots
		published := make(map[string]time.Time)
		var late time.Duration // of this step, by sleep
		for range 60 {
			create := func(activates time.Time) (root, error) { return fakeRoot(now, activates, cfg.CATTL), nil }
			next, again, err := r.advance(now, cfg, create)
			if err != nil {
				t.Fatal(err)
			}
			if !again.After(now) {
				t.Fatalf("look again at %s, now is %s", again, now)
			}
			changed := len(next.list) != len(r.list) || len(next.list) > 0 && len(r.list) > 0 && next.list[len(next.list)-1].created != r.list[len(r.list)-1].created
			if changed != (next.sequence > r.sequence) {
				t.Fatalf("sequence %d after %d, changed %v", next.sequence, r.sequence, changed)
			}
			for _, a := range next.list {
				if again.After(a.cert.NotAfter) {
					t.Fatalf("a root that expires at %s stays until %s", a.cert.NotAfter, again)
				}
				if _, ok := published[a.created.String()]; !ok {
					published[a.created.String()] = now
					if lead := a.activates.Sub(now); len(next.list) > 1 && lead < cfg.CATTL/rootToSVID-late {
						t.Fatalf("published only %s before it signs", lead)
					}
				}
			}
			between := now.Add(time.Duration(rapid.Int64Range(0, int64(again.Sub(now))).Draw(t, "issued after")))
			for _, issued := range []time.Time{now, between} {
				signer, err := next.signer(issued)
				if err != nil {
					t.Fatal(err)
				}
				if left := signer.cert.NotAfter.Sub(issued); left < cfg.SVIDTTL {
					t.Fatalf("the signer has %s left, an svid lives %s", left, cfg.SVIDTTL)
				}
			}
			if len(next.list) > 3 {
				t.Fatalf("%d roots", len(next.list))
			}
			r, now, late = next, again, 0
			if rapid.IntRange(0, 9).Draw(t, "sleeps") == 0 {
				late = time.Duration(rapid.Int64Range(0, 2*int64(cfg.CATTL)).Draw(t, "for"))
				now = now.Add(late)
			}
		}
	})
}

// fakeRoot has what advance looks at, without the cost of a key.
func fakeRoot(now, activates time.Time, life time.Duration) root {
	return root{
		cert:    &x509.Certificate{NotBefore: now.Add(-backdate), NotAfter: now.Add(life), Raw: []byte(now.String())},
		created: now, activates: activates,
	}
}

func TestRenewalIsSpreadBetweenFortyAndFiftyPercent(t *testing.T) {
	for range 1000 {
		if d := renewAfter(time.Hour, rand.Float64()); d < 24*time.Minute || d >= 30*time.Minute {
			t.Fatalf("got %s", d)
		}
	}
	if d := renewAfter(0, 0); d != minRenew {
		t.Fatalf("got %s", d)
	}
}

func TestClockSetBackStillSigns(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := roots{list: []root{fakeRoot(now, now, time.Hour), fakeRoot(now.Add(time.Minute), now.Add(time.Minute), time.Hour)}}
	if a, err := r.signer(now.Add(-time.Hour)); err != nil || a.created != now {
		t.Fatalf("got %v, %v", a, err)
	}
	if _, err := r.signer(now.Add(2 * time.Hour)); err == nil {
		t.Fatal("an expired root signs")
	}
}

func FuzzParseRoots(f *testing.F) {
	now := time.Now()
	a, err := newRoot(testDomain, now, now, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	body, err := roots{list: []root{a}, sequence: 7}.marshal(testDomain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"trust_domain":"a.test","roots":[{"certificate":"AA==","key":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRoots(body, testDomain)
		if err != nil {
			return
		}
		if len(r.list) == 0 {
			t.Fatal("a state without roots was taken")
		}
		again, err := r.marshal(testDomain)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRoots(again, testDomain); err != nil {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func FuzzParseFederated(f *testing.F) {
	f.Add([]byte(`{"b.test":"e30="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if docs, err := parseFederated(body); err == nil && len(docs) > len(body) {
			t.Fatal("more documents than bytes")
		}
	})
}
