package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// names are the names in a page.
func names(t *testing.T, got reply) (out []string) {
	t.Helper()
	var page struct {
		Items []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(got.body), &page); err != nil || got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, i := range page.Items {
		out = append(out, i.Name)
	}
	return out
}

func TestServicesByNameAndOwner(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	var entries []feed.Entry[resource.Service]
	for _, item := range []resource.Service{
		{Name: catalog.MustServiceName("cart.shop"), Sources: []string{"consul"}, ExportedTo: []catalog.ClusterName{"west"}},
		{Name: catalog.MustServiceName("cart.test"), Sources: []string{"file"}},
		{Name: catalog.MustServiceName("pay.shop"), Remote: []resource.Offer{{Cluster: "west", Name: catalog.MustServiceName("pay.shop")}}, Conflicts: []merge.Conflict{{
			Service: catalog.MustServiceName("pay.shop"), Field: "import", Winner: merge.Side{Service: catalog.MustServiceName("pay.shop")},
		}}},
	} {
		entries = append(entries, feed.Entry[resource.Service]{Key: item.Name.String(), Item: item})
	}
	s.lists.Services.Replace(entries)
	for query, want := range map[string][]string{
		"":                               {"cart.shop", "cart.test", "pay.shop"},
		"?name=cart":                     {"cart.shop", "cart.test"},
		"?namespace=shop":                {"cart.shop", "pay.shop"},
		"?namespace=shop&name=cart":      {"cart.shop"},
		"?cluster=west":                  {"pay.shop"},
		"?exported_to=west":              {"cart.shop"},
		"?source=file":                   {"cart.test"},
		"?conflicts=true":                {"pay.shop"},
		"?cluster=north":                 nil,
		"?namespace=shop&source=consul":  {"cart.shop"},
		"?limit=1&namespace=shop":        {"cart.shop"},
		"?conflicts=false&namespace=te":  nil,
		"?conflicts=false&exported_to=x": nil,
	} {
		if got := names(t, s.ask(t, "GET", "/v1/services"+query, "")); !slices.Equal(got, want) {
			t.Errorf("services%s = %v, want %v", query, got, want)
		}
	}
}

func TestRulesByOriginServiceAndPeer(t *testing.T) {
	t.Parallel()
	s := newStand(t) // with the export from-file of web.default to *
	for _, c := range []struct{ kind, body string }{
		{"exports", `{"name":"shop","services":["*.shop"],"to":["west"]}`},
		{"imports", `{"name":"all","from":"west","services":["*"]}`},
		{"imports", `{"name":"one","from":"north","services":["pay.shop"]}`},
		{"traffic-policies", `{"name":"pinned","services":["pay.shop"],"pin":"west"}`},
		{"traffic-policies", `{"name":"weighted","services":["*"],"weights":{"north":3}}`},
	} {
		if got := s.ask(t, "POST", "/v1/"+c.kind, c.body); got.status != 201 {
			t.Fatal(got)
		}
	}
	for query, want := range map[string][]string{
		"exports?origin=config":                {"from-file"},
		"exports?origin=api":                   {"shop"},
		"exports?service=cart.shop":            {"shop"},
		"exports?service=web":                  {"from-file"},
		"exports?peer=west":                    {"from-file", "shop"},
		"exports?peer=north":                   {"from-file"},
		"imports?peer=north":                   {"one"},
		"imports?service=pay.shop":             {"all", "one"},
		"imports?service=web":                  {"all"},
		"traffic-policies?peer=west":           {"pinned"},
		"traffic-policies?peer=north":          {"weighted"},
		"traffic-policies?service=web":         {"weighted"},
		"intentions?origin=api&service=web":    nil,
		"peers?origin=api":                     nil,
		"traffic-policies?origin=config":       nil,
		"traffic-policies?peer=west&limit=100": {"pinned"},
	} {
		if got := names(t, s.ask(t, "GET", "/v1/"+query, "")); !slices.Equal(got, want) {
			t.Errorf("%s = %v, want %v", query, got, want)
		}
	}
	for _, bad := range []string{"exports?service=A.b", "exports?origin=file", "peers?state=lost", "sources?state=x", "gateways?state=dead", "endpoints?health=fine"} {
		if got := s.ask(t, "GET", "/v1/"+bad, ""); got.status != 422 {
			t.Errorf("%s = %d", bad, got.status)
		}
	}
}

// An item that leaves what a watch asks for is told as gone; one that comes in, as
// new.
func TestWatchTellsWhatMovesOutOfItsFilter(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	set := func(states ...string) {
		var entries []feed.Entry[resource.Gateway]
		for i, state := range states {
			name := string(rune('a' + i))
			entries = append(entries, feed.Entry[resource.Gateway]{Key: name, Item: resource.Gateway{Name: name, State: state}})
		}
		s.lists.Gateways.Replace(entries)
	}
	set("alive", "silent")
	began := s.lists.Gateways
	_, revision := began.All()
	set("silent", "alive")
	lines := s.watchLines(t, "/v1/gateways?watch=true&state=silent&since="+number(revision), 2)
	if lines[0].Type != resource.Put || lines[0].Key != "a" || lines[1].Type != resource.Delete || lines[1].Key != "b" {
		t.Errorf("%+v", lines)
	}
	lines = s.watchLines(t, "/v1/gateways?watch=true&state=silent", 2)
	if lines[0].Key != "a" || lines[1].Type != resource.Synced {
		t.Errorf("%+v", lines)
	}
}

// A page that has not changed is not sent again.
func TestPagesHaveETags(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	s.services(3)
	first := s.ask(t, "GET", "/v1/services?limit=2", "")
	etag := first.header.Get("ETag")
	if first.status != 200 || etag == "" {
		t.Fatal(first)
	}
	if got := s.ask(t, "GET", "/v1/services?limit=2", "", "If-None-Match: "+etag); got.status != 304 || got.body != "" || got.header.Get("ETag") != etag {
		t.Errorf("the same = %+v", got)
	}
	s.services(4)
	if got := s.ask(t, "GET", "/v1/services?limit=2", "", "If-None-Match: "+etag); got.status != 200 || got.header.Get("ETag") == etag {
		t.Errorf("changed = %+v", got)
	}
}

// watchLines reads n lines of a watch.
func (s *stand) watchLines(t *testing.T, path string, n int) (out []resource.WatchEvent[resource.Gateway]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for range n {
		var e resource.WatchEvent[resource.Gateway]
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
