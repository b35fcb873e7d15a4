package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// ruleOf writes a rule of a kind, different for each n.
func ruleOf(kind, name string, n int) string {
	switch kind {
	case "exports":
		return fmt.Sprintf(`{"name":%q,"services":["web","s%d.shop"],"to":["west"]}`, name, n)
	case "imports":
		return fmt.Sprintf(`{"name":%q,"from":"west","services":["s%d.shop"]}`, name, n)
	case "intentions":
		return fmt.Sprintf(`{"name":%q,"services":["web"],"callers":["spiffe://x.test/c%d"],"action":"allow"}`, name, n)
	case "peers":
		return fmt.Sprintf(`{"name":%q,"id":"spiffe://%s.test/isthmus/cluster/c","gateways":["g%d.test:7443"]}`, name, name, n)
	default:
		return fmt.Sprintf(`{"name":%q,"services":["web"],"weights":{"west":%d}}`, name, n+1)
	}
}

var allKinds = []string{"exports", "imports", "intentions", "traffic-policies", "peers"}

// lists are the bodies of every list of rules. Of peers it is what was written
// of them: their states are another matter.
func lists(t *testing.T, s *stand, query string) string {
	t.Helper()
	var out strings.Builder
	for _, kind := range allKinds {
		got := s.patient(t, "GET", "/v1/"+kind+"?limit=1000"+query, "")
		if got.status != http.StatusOK {
			t.Fatalf("GET %s%s = %+v", kind, query, got)
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal([]byte(got.body), &page); err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			fmt.Fprintf(&out, "%s %s\n", kind, item)
		}
	}
	return out.String()
}

func sequence(t *testing.T, s *stand) uint64 {
	t.Helper()
	var v resource.Verification
	got := s.patient(t, "GET", "/v1/history/verify", "")
	if err := json.Unmarshal([]byte(got.body), &v); err != nil || !v.OK {
		t.Fatalf("GET /v1/history/verify = %+v, %v", got, err)
	}
	return v.Last
}

// Random changes over the API: every state of the past is, byte for byte, what
// was answered then, and any of them can be brought back.
func TestAsOfAnswersWhatWasAnsweredThen(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	// The feed of peers is the federation's own; here it follows the shelf.
	peersFollow(t, s)
	recordConfig(t, s)
	random := rand.New(rand.NewPCG(7, 11))
	start := sequence(t, s)
	was := map[uint64]string{start: lists(t, s, "")}
	etags := map[string]string{}
	for n := range 60 {
		kind := allKinds[random.IntN(len(allKinds))]
		name := fmt.Sprintf("r%d", random.IntN(4))
		path := "/v1/" + kind + "/" + name
		etag, exists := etags[path]
		var got reply
		switch {
		case exists && random.IntN(3) == 0:
			got = s.patient(t, "DELETE", path, "", "Isthmus-Reason: no longer")
			delete(etags, path)
		case exists:
			got = s.patient(t, "PUT", path, ruleOf(kind, name, n), "If-Match: "+etag)
			etags[path] = got.header.Get("ETag")
		default:
			got = s.patient(t, "POST", "/v1/"+kind, ruleOf(kind, name, n))
			etags[path] = got.header.Get("ETag")
		}
		if got.status >= 300 {
			t.Fatalf("change %d: %+v", n, got)
		}
		peersFollow(t, s)
		was[sequence(t, s)] = lists(t, s, "")
	}
	if len(was) != 61 {
		t.Fatalf("60 changes made %d states", len(was))
	}
	for n, want := range was {
		if got := lists(t, s, fmt.Sprintf("&as_of=%d", n)); got != want {
			t.Fatalf("as of %d:\n%s\nwas answered\n%s", n, got, want)
		}
	}
	// Back and forth: rules are what they were but for their etags.
	for _, n := range []uint64{10, 55, start, 40} {
		dry := s.patient(t, "POST", fmt.Sprintf("/v1/history/revert?as_of=%d&dry_run=true", n), "")
		before := sequence(t, s)
		got := s.patient(t, "POST", fmt.Sprintf("/v1/history/revert?as_of=%d", n), "", "Isthmus-Reason: drill")
		if got.status != http.StatusOK || dry.status != http.StatusOK || strings.Replace(dry.body, `"dry_run":true,`, "", 1) != got.body {
			t.Fatalf("revert to %d: %+v, dry run %+v", n, got, dry)
		}
		var done resource.Revert
		if err := json.Unmarshal([]byte(got.body), &done); err != nil || sequence(t, s) != before+uint64(len(done.Changes)) {
			t.Fatalf("revert to %d made %d records of %d changes, %v", n, sequence(t, s)-before, len(done.Changes), err)
		}
		peersFollow(t, s)
		if got, want := withoutTags(lists(t, s, "")), withoutTags(was[n]); got != want {
			t.Fatalf("after a revert to %d:\n%s\nwas\n%s", n, got, want)
		}
	}
}

func withoutTags(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		before, _, _ := strings.Cut(line, `,"etag":`)
		out.WriteString(before + "\n")
	}
	return out.String()
}

func TestHistoryAnswers(t *testing.T) {
	s := newStand(t)
	first := s.patient(t, "POST", "/v1/exports", exportJSON, "Isthmus-Reason: open the shop")
	put := s.patient(t, "PUT", "/v1/exports/shop", strings.Replace(exportJSON, "west", "north", 1), "If-Match: "+first.header.Get("ETag"))
	if put.status != http.StatusOK {
		t.Fatalf("PUT = %+v", put)
	}
	if in := s.patient(t, "POST", "/v1/intentions", ruleOf("intentions", "in", 1)); in.status != http.StatusCreated {
		t.Fatalf("POST = %+v", in)
	}
	var page resource.Page[resource.Change]
	for query, want := range map[string]int{
		"": 3, "?kind=exports": 2, "?name=in": 1, "?principal=nobody": 0, "?limit=2": 2, "?to=2020-01-01T00:00:00Z": 0, "?from=2020-01-01T00:00:00Z": 3,
	} {
		got := s.patient(t, "GET", "/v1/history"+query, "")
		page = resource.Page[resource.Change]{}
		if err := json.Unmarshal([]byte(got.body), &page); err != nil || len(page.Items) != want {
			t.Errorf("GET /v1/history%s = %d records, %v; want %d: %s", query, len(page.Items), err, want, got.body)
		}
	}
	var detail resource.ChangeDetail
	got := s.patient(t, "GET", "/v1/history/2", "")
	if err := json.Unmarshal([]byte(got.body), &detail); err != nil || detail.Action != "replace" ||
		len(detail.Diff) != 1 || detail.Diff[0].Path != "/to/0" || string(detail.Diff[0].Before) != `"west"` || string(detail.Diff[0].After) != `"north"` {
		t.Errorf("GET /v1/history/2 = %s, %v", got.body, err)
	}
	got = s.patient(t, "GET", "/v1/history/1", "")
	if !strings.Contains(got.body, `"reason":"open the shop"`) || !strings.Contains(got.body, `"principal":"token`) ||
		!strings.Contains(got.body, `"request_id":"`+first.header.Get("Isthmus-Request-Id")+`"`) {
		t.Errorf("the first record lacks who and why: %s", got.body)
	}
	if got := s.patient(t, "GET", "/v1/exports/shop?as_of=1", ""); got.body != first.body || got.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("GET as of 1 = %+v, it was answered %+v", got, first)
	}
	for _, c := range []struct {
		method, path string
		status       int
		code         api.Code
	}{
		{"GET", "/v1/history/4", 404, api.CodeNotFound},
		{"GET", "/v1/history/0", 422, api.CodeInvalid},
		{"GET", "/v1/history/x", 422, api.CodeInvalid},
		{"GET", "/v1/exports?as_of=4", 404, api.CodeNotFound},
		{"GET", "/v1/exports?as_of=yesterday", 422, api.CodeInvalid},
		{"GET", "/v1/exports?as_of=1&watch=true", 422, api.CodeInvalid},
		{"GET", "/v1/exports/shop?as_of=0", 404, api.CodeNotFound},
		{"GET", "/v1/history?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422, api.CodeInvalid},
		{"POST", "/v1/history/1/revert", 412, api.CodeChanged}, // changed by 2
		{"POST", "/v1/history/9/revert", 404, api.CodeNotFound},
		{"POST", "/v1/history/revert", 422, api.CodeInvalid},
		{"POST", "/v1/history/revert?as_of=9", 404, api.CodeNotFound},
	} {
		got := s.patient(t, c.method, c.path, "")
		if got.status != c.status || !strings.Contains(got.body, string(c.code)) {
			t.Errorf("%s %s = %d %s, want %d %s", c.method, c.path, got.status, got.body, c.status, c.code)
		}
	}
	undone := s.patient(t, "POST", "/v1/history/2/revert", "")
	if undone.status != http.StatusOK {
		t.Fatalf("revert = %+v", undone)
	}
	if now := s.patient(t, "GET", "/v1/exports/shop", ""); !strings.Contains(now.body, "west") {
		t.Errorf("after the revert: %s", now.body)
	}
	if got := s.patient(t, "GET", "/v1/history/4", ""); !strings.Contains(got.body, `"reason":"revert of change 2"`) {
		t.Errorf("the revert is recorded as %s", got.body)
	}
	if forced := s.patient(t, "POST", "/v1/history/1/revert?force=true", ""); forced.status != http.StatusOK {
		t.Errorf("forced revert = %+v", forced)
	}
	if gone := s.patient(t, "GET", "/v1/exports/shop", ""); gone.status != http.StatusNotFound {
		t.Errorf("after the forced revert of its creation: %+v", gone)
	}
}

// peersFollow makes the list of peers what the shelf says, as the federation's
// loop does.
func peersFollow(t *testing.T, s *stand) {
	t.Helper()
	s.lists.Peers.Replace(nil) // nothing is known of any
	all, _ := s.book.PeerRules().Feed().All()
	entries := make([]feed.Entry[resource.Peer], len(all))
	for i, e := range all {
		got := s.patient(t, "GET", "/v1/peers/"+e.Key, "")
		if err := json.Unmarshal([]byte(got.body), &entries[i].Item); err != nil {
			t.Fatal(err)
		}
		entries[i].Key = e.Key
	}
	s.lists.Peers.Replace(entries)
}

// patient asks again where it asked too often.
func (s *stand) patient(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	for {
		got := s.ask(t, method, path, body, header...)
		if got.status != http.StatusTooManyRequests {
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// recordConfig records what the config file says, as the federation does.
func recordConfig(t *testing.T, s *stand) {
	t.Helper()
	rules, err := s.book.ConfigRules()
	if err == nil {
		err = s.history.SetConfig(t.Context(), rules)
	}
	if err != nil {
		t.Fatal(err)
	}
}
