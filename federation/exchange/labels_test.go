package exchange_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// Labels are on each begin, outside of the digest: a version that knows none passes
// over them.
func TestLabelsTravelWithBatches(t *testing.T) {
	f := exchange.NewFeed("gcp", 1)
	with := state(summary("web.shop", 1))
	with.Gateways = nil
	a := newApplier()
	apply := func(labels map[string]string, changed bool) {
		t.Helper()
		s := with
		s.Labels = labels
		if got, err := f.Set(s); got != changed || err != nil {
			t.Fatalf("changed %v, %v", got, err)
		}
		have, full := a.Connected()
		if _, err := feed(a, f.Since(have, full), t0); err != nil {
			t.Fatal(err)
		}
		if got := a.Snapshot().Labels(); !maps.Equal(got, labels) {
			t.Fatalf("heard %v, want %v", got, labels)
		}
	}
	apply(map[string]string{"tier": "gold"}, true)
	apply(map[string]string{"tier": "gold"}, false)
	apply(map[string]string{"tier": "silver", "team": "a b"}, true)
	digest := a.Snapshot().Digest()
	apply(nil, true)
	if a.Snapshot().Digest() != digest {
		t.Error("the digest is over labels, which older versions do not count")
	}
}

func TestLabelsThatAreNoneAreRefused(t *testing.T) {
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf(`"l%d":"x"`, i)
	}
	for _, labels := range []string{`{"":"x"}`, `{"a":""}`, `{"region":"x"}`, `{` + strings.Join(many, ",") + `}`} {
		a := newApplier()
		line := fmt.Sprintf(`{"type":"begin","format":1,"cluster":"gcp","epoch":1,"version":1,"labels":%s}`, labels)
		_, err := feed(a, []string{line}, t0)
		wantRefused(t, err, exchange.ReasonInvalid)
	}
}
