package decisions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/decisions"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// bench is a log with a clock, and its lines.
type bench struct {
	*decisions.Log
	t     *testing.T
	clock time.Time
	out   bytes.Buffer
}

func newBench(t *testing.T, allowed decisions.Allowed) *bench {
	b := &bench{t: t, clock: time.Unix(1_800_000_000, 0)}
	l, err := decisions.New(decisions.Options{Allowed: allowed, Log: slog.New(slog.NewJSONHandler(&b.out, nil)), Now: func() time.Time { return b.clock }})
	if err != nil {
		t.Fatal(err)
	}
	b.Log = l
	return b
}

func (b *bench) lines() (all []map[string]any) {
	b.t.Helper()
	for line := range strings.Lines(b.out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, m)
	}
	b.out.Reset()
	return all
}

func judged(caller string, v route.Verdict) *attempt.Judgement {
	r := policy.NewHTTPRequest("GET", "/a", nil)
	return &attempt.Judgement{
		Call: &attempt.Call{Service: catalog.MustServiceName("web.shop"), Port: "main", Caller: caller, HTTP: &r, Assurance: wire.AssuranceMTLS},
		Peer: "beta", Verdict: v, Epoch: 3, Version: 7,
	}
}

var (
	denied  = route.Verdict{Reason: route.ReasonDeniedByIntention, Rule: "no"}
	allowed = route.Verdict{Allowed: true, Reason: route.ReasonAllowed, Rule: "yes"}
)

func TestADenialIsOneLineWithEverything(t *testing.T) {
	b := newBench(t, "")
	b.Note(judged("spiffe://beta.test/web", denied))
	b.Note(judged("spiffe://beta.test/web", allowed))
	lines := b.lines()
	if len(lines) != 1 {
		t.Fatalf("%v", lines)
	}
	for key, want := range map[string]any{
		"msg": "call denied", "level": "WARN", "caller": "spiffe://beta.test/web", "assurance": "mtls", "peer": "beta", "service": "web.shop", "port": "main",
		"method": "GET", "path": "/a", "reason": "denied_by_intention", "rule": "no", "epoch": 3.0, "version": 7.0, "count": 1.0,
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
}

func TestRepetitionsAreCounted(t *testing.T) {
	b := newBench(t, "")
	for range 1000 {
		b.Note(judged("spiffe://beta.test/web", denied))
	}
	b.Note(judged("spiffe://beta.test/other", denied))
	b.clock = b.clock.Add(time.Second)
	b.Note(judged("spiffe://beta.test/web", denied))
	lines := b.lines()
	if len(lines) != 3 || lines[0]["count"] != 1.0 || lines[1]["count"] != 1.0 || lines[2]["count"] != 1000.0 {
		t.Errorf("%v", lines)
	}
}

func TestAFloodOfNamesIsBoundedAndCounted(t *testing.T) {
	b := newBench(t, "")
	for i := range 10_000 {
		b.Note(judged(fmt.Sprintf("spiffe://beta.test/%d", i), denied))
	}
	if n := len(b.lines()); n != 200 {
		t.Errorf("%d lines at once", n)
	}
	b.clock = b.clock.Add(time.Second)
	b.Note(judged("spiffe://beta.test/late", denied))
	lines := b.lines()
	if len(lines) != 1 || lines[0]["count"].(float64) < 5000 {
		t.Errorf("%v: it stands for those that were forgotten", lines)
	}
}

func TestWhatIsAllowedIsSampled(t *testing.T) {
	b := newBench(t, decisions.Sample)
	for range 120 {
		b.Note(judged("spiffe://beta.test/web", allowed))
		b.clock = b.clock.Add(time.Second)
	}
	lines := b.lines()
	if len(lines) != 2 || lines[1]["count"] != 60.0 || lines[0]["msg"] != "call allowed" || lines[0]["level"] != "INFO" {
		t.Errorf("%v", lines)
	}
	b = newBench(t, decisions.All)
	for range 10 {
		b.Note(judged("spiffe://beta.test/web", allowed))
	}
	if n := len(b.lines()); n != 10 {
		t.Errorf("%d lines of all", n)
	}
	if _, err := decisions.New(decisions.Options{Allowed: "some", Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("an unknown setting is accepted")
	}
	if _, err := decisions.New(decisions.Options{}); err == nil {
		t.Error("a log without a log is accepted")
	}
}

func TestLongPathsAreCut(t *testing.T) {
	b := newBench(t, "")
	j := judged("", denied)
	r := policy.NewHTTPRequest("GET", "/"+strings.Repeat("x", 5000), nil)
	j.HTTP = &r
	b.Note(j)
	if lines := b.lines(); len(lines[0]["path"].(string)) > 300 || lines[0]["caller"] != nil {
		t.Errorf("%v", lines)
	}
}
