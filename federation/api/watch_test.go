package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func TestPages(t *testing.T) {
	s := newStand(t)
	s.services(2500)
	for _, limit := range []int{0, 1000, 7} {
		want := limit
		if limit == 0 {
			want = 100
		}
		page, err := s.tcp.Services().Page(t.Context(), limit, "")
		if err != nil || len(page.Items) != want || page.NextCursor == "" || page.Revision == 0 {
			t.Fatalf("page with limit %d = %d items, cursor %q, revision %d, %v", limit, len(page.Items), page.NextCursor, page.Revision, err)
		}
	}
	all, err := s.tcp.Services().List(t.Context())
	if err != nil || len(all) != 2500 {
		t.Fatalf("List = %d, %v", len(all), err)
	}
	last, err := s.tcp.Services().Page(t.Context(), 1000, "")
	for err == nil && last.NextCursor != "" {
		last, err = s.tcp.Services().Page(t.Context(), 1000, last.NextCursor)
	}
	if err != nil || len(last.Items) != 500 {
		t.Fatalf("last page = %d, %v", len(last.Items), err)
	}
	if empty := s.ask(t, "GET", "/v1/peers", ""); !strings.Contains(empty.body, `"items":[]`) {
		t.Errorf("an empty list is %s, want []", empty.body)
	}
	svc, err := s.tcp.Services().Get(t.Context(), "svc-0007")
	if err != nil || svc.Name.String() != "svc-0007.default" {
		t.Errorf("Get without a namespace = %+v, %v", svc, err)
	}
}

func TestFilters(t *testing.T) {
	s := newStand(t)
	var entries []feed.Entry[resource.Endpoint]
	for _, name := range []string{"a.default", "b.default"} {
		for i := range 3 {
			key := fmt.Sprintf("%s/http/%d", name, i)
			entries = append(entries, feed.Entry[resource.Endpoint]{Key: key, Item: resource.Endpoint{Key: key, Service: catalog.MustServiceName(name)}})
		}
	}
	s.lists.Endpoints.Replace(entries)
	for filter, want := range map[string]int{"": 6, "b": 3, "b.default": 3, "c": 0} {
		got, err := s.tcp.Endpoints(filter).List(t.Context())
		if err != nil || len(got) != want {
			t.Errorf("endpoints of %q = %d, %v; want %d", filter, len(got), err, want)
		}
	}
}

// collect reads n events of a watch.
func collect[T any](t *testing.T, l client.Collection[T], since uint64, n int, during func(i int)) []resource.WatchEvent[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []resource.WatchEvent[T]
	for e, err := range l.Watch(ctx, since) {
		if err != nil {
			t.Fatalf("after %d events: %v", len(got), err)
		}
		got = append(got, e)
		if during != nil {
			during(len(got))
		}
		if len(got) == n {
			break
		}
	}
	if len(got) != n {
		t.Fatalf("%d events, want %d: %+v", len(got), n, got)
	}
	return got
}

func TestWatchListsThenFollowsThenResumes(t *testing.T) {
	s := newStand(t)
	s.services(2)
	got := collect(t, s.socketed.Services(), 0, 5, func(i int) {
		if i == 3 { // synced
			s.services(3)
		}
		if i == 4 {
			s.services(1)
		}
	})
	for i, want := range []struct {
		typ resource.EventType
		key string
	}{
		{resource.Put, "svc-0000.default"},
		{resource.Put, "svc-0001.default"},
		{resource.Synced, ""},
		{resource.Put, "svc-0002.default"},
		{resource.Delete, "svc-0001.default"},
	} {
		if got[i].Type != want.typ || got[i].Key != want.key || (want.typ == resource.Put) != (got[i].Item != nil) {
			t.Errorf("event %d is %+v, want %+v", i, got[i], want)
		}
	}
	// From the middle of a burst on: nothing is missed, nothing comes twice.
	rest := collect(t, s.socketed.Services(), got[4].Revision, 1, nil)
	if rest[0].Type != resource.Delete || rest[0].Key != "svc-0002.default" || rest[0].Revision <= got[4].Revision {
		t.Errorf("resumed with %+v", rest[0])
	}
	page, err := s.tcp.Services().Page(t.Context(), 1, "")
	if err != nil || page.Revision != rest[0].Revision {
		t.Errorf("the list is at revision %d, the watch at %d, %v", page.Revision, rest[0].Revision, err)
	}
}

func TestWatchFilters(t *testing.T) {
	s := newStand(t)
	put := func(n int) {
		var entries []feed.Entry[resource.Link]
		for i := range n {
			key := fmt.Sprintf("gw-%d", i)
			l := resource.Link{Key: key, From: key}
			l.Cluster = catalog.ClusterName([]string{"west", "north"}[i%2])
			entries = append(entries, feed.Entry[resource.Link]{Key: key, Item: l})
		}
		s.lists.Links.Replace(entries)
	}
	put(4)
	resp := watchLines(t, s, "/v1/links?watch=true&cluster=north")
	for _, want := range []string{"gw-1", "gw-3", "synced"} {
		if e := resp.next(t); !strings.Contains(e, want) {
			t.Errorf("line %s, want %s", e, want)
		}
	}
	put(7)
	if e := resp.next(t); !strings.Contains(e, "gw-5") {
		t.Errorf("line %s, want gw-5", e)
	}
	put(2)
	for _, want := range []string{"gw-3", "gw-5"} {
		if e := resp.next(t); !strings.Contains(e, want) || !strings.Contains(e, `"delete"`) {
			t.Errorf("line %s, want the deletion of %s", e, want)
		}
	}
}

type lines struct{ *bufio.Scanner }

func (l lines) next(t *testing.T) string {
	t.Helper()
	for l.Scan() {
		if !strings.Contains(l.Text(), "heartbeat") {
			return l.Text()
		}
	}
	t.Fatalf("the stream ended: %v", l.Err())
	return ""
}

// watchLines opens a raw stream over the loopback listener.
func watchLines(t *testing.T, s *stand, path string) lines {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "application/jsonl" {
		t.Fatalf("status %d, content type %q", resp.StatusCode, ct)
	}
	return lines{bufio.NewScanner(resp.Body)}
}

// A silent watch lives on beyond the listener's read timeout, and says so.
func TestWatchOutlivesTheReadTimeout(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes longer than the read timeout of 10 s")
	}
	s := newStand(t)
	stream := watchLines(t, s, "/v1/services?watch=true")
	if e := stream.next(t); !strings.Contains(e, "synced") {
		t.Fatalf("first line %s", e)
	}
	for i := range 3 { // 5 s apart
		if !stream.Scan() || !strings.Contains(stream.Text(), "heartbeat") {
			t.Fatalf("heartbeat %d: %q, %v", i, stream.Text(), stream.Err())
		}
	}
	s.services(1)
	if e := stream.next(t); !strings.Contains(e, "svc-0000") {
		t.Fatalf("line after 15 s of silence: %s", e)
	}
}

func TestWatchThatIsTooOldIsGone(t *testing.T) {
	s := newStand(t)
	for _, since := range []uint64{1, feedBase - 1, feedBase + 1<<20} {
		var got error
		for _, err := range s.tcp.Services().Watch(t.Context(), since) {
			got = err
		}
		if !errors.Is(got, client.ErrGone) {
			t.Errorf("watch since %d = %v, want ErrGone", since, got)
		}
	}
}

// A reader that does not read costs a bounded history, and is told when it has
// fallen out of it.
func TestSlowWatchIsToldThatItIsGone(t *testing.T) {
	s := newStand(t)
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "GET /v1/events?watch=true HTTP/1.1\r\nHost: isthmus\r\n\r\n")
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	// Far more than socket buffers and history hold together. The server can be
	// ahead of nobody: what it could write before the buffers filled, it did.
	for i := range 4 * feed.HistoryLen {
		key := fmt.Sprintf("%012d", i)
		s.lists.Events.Append(feed.Entry[resource.Event]{Key: key, Item: resource.Event{Sequence: uint64(i), Cluster: "east", Subject: strings.Repeat("x", 1000)}}, 100)
	}
	var last resource.WatchEvent[resource.Event]
	seen := uint64(0)
	for dec := json.NewDecoder(resp.Body); ; {
		var e resource.WatchEvent[resource.Event]
		if err := dec.Decode(&e); err != nil {
			t.Logf("the stream ended: %v", err)
			break
		}
		if e.Type == resource.Put {
			if e.Revision <= seen {
				t.Fatalf("revision %d after %d", e.Revision, seen)
			}
			seen = e.Revision
		}
		last = e
		if e.Type == resource.Put && e.Item.Sequence == 4*feed.HistoryLen-1 {
			t.Skip("this machine's socket buffers held everything")
		}
	}
	if last.Type != resource.Gone {
		t.Fatalf("the stream ended with %+v, want gone", last)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	s := newStand(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const most = 64
	done := make(chan struct{}, most)
	for range most {
		began := make(chan struct{})
		go func() {
			defer func() { done <- struct{}{} }()
			for e, err := range s.socketed.Services().Watch(ctx, 0) {
				if err == nil && e.Type == resource.Synced {
					close(began)
				}
			}
		}()
		<-began
	}
	got := s.ask(t, "GET", "/v1/peers?watch=true", "")
	if p := got.problem(t); got.status != http.StatusServiceUnavailable || !strings.HasSuffix(p.Type, string(api.CodeTooManyWatches)) {
		t.Errorf("watch %d = %d %s", most+1, got.status, got.body)
	}
	if list := s.ask(t, "GET", "/v1/peers", ""); list.status != http.StatusOK {
		t.Errorf("lists are refused too: %+v", list)
	}
	cancel()
	for range most {
		<-done
	}
	// Places are given back when the server notices: at once, by the closed
	// connections.
	deadline := time.Now().Add(10 * time.Second)
	for {
		var err error
		for e, werr := range s.socketed.Peers().Watch(t.Context(), 0) {
			if err = werr; e.Type == resource.Synced {
				break
			}
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place was given back: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
