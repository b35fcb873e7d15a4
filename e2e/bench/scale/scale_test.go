package main

import (
	"context"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// measure runs one size with the world in this process.
func measure(t *testing.T, p plan, s size) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	orders, toWorld := io.Pipe()
	words, toSubject := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := runWorld(ctx, s, orders, toSubject)
		_ = toSubject.CloseWithError(io.EOF)
		done <- err
	}()
	res, err := newSubject(p, s, words, toWorld, t.TempDir()).run(ctx)
	_ = toWorld.Close()
	if worldErr := <-done; err == nil {
		err = worldErr
	}
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// One size and one ten times as large: everything arrives at every gateway, and
// what is sent for a change does not grow with the size.
func TestAChangeCostsWhatChanges(t *testing.T) {
	p := plan{Rate: 50, Steady: 2 * time.Second}
	small := size{Peers: 5, Services: 20, Spread: 4, Endpoints: 400, Gateways: 2}
	large := small
	large.Services, large.Endpoints = 10*small.Services, 10*small.Endpoints
	few, many := measure(t, p, small), measure(t, p, large)
	for _, r := range []result{few, many} {
		t.Logf("figure: %v: first sync %v, %.0f bytes a change to a gateway, p99 %v", r.Size, ms(r.FirstSync), r.Sent, ms(max(r.Local99, r.Remote99)))
		if r.Missing != 0 {
			t.Errorf("%v: %d changes did not arrive", r.Size, r.Missing)
		}
		if r.Sent == 0 || r.Told == 0 {
			t.Errorf("%v: %v bytes to gateways, %d lines to peers", r.Size, r.Sent, r.Told)
		}
	}
	const most = 3 // both are about 300 bytes; a whole table would be ten times as much
	if many.Sent > most*few.Sent {
		t.Errorf("a change sends %.0f bytes at ten times the size, %.0f before", many.Sent, few.Sent)
	}
}

func TestShares(t *testing.T) {
	p, err := parseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	for percent, want := range map[int]size{
		1:   {Peers: 20, Services: 100, Spread: 20, Endpoints: 10_000, Gateways: 3},
		100: {Peers: 200, Services: 10_000, Spread: 20, Endpoints: 1_000_000, Gateways: 3},
	} {
		s := p.share(percent)
		if s != want {
			t.Errorf("%d %%: %+v, want %+v", percent, s, want)
		}
		offers := 0
		for n := range s.Peers {
			offers += len(s.offeredBy(n))
		}
		if offers != s.rows() {
			t.Errorf("%d %%: peers offer %d services, want %d", percent, offers, s.rows())
		}
	}
	if _, err := parseFlags([]string{"-shares", "0"}); err == nil {
		t.Error("a share of 0 % is taken")
	}
	if _, err := parseFlags([]string{"-spread", "300"}); err == nil {
		t.Error("services in more peers than there are")
	}
}
