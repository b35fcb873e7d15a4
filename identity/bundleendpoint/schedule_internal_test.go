package bundleendpoint

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"pgregory.net/rapid"
)

func TestRefreshStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hint := time.Duration(rapid.Int64().Draw(t, "hint"))
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		if got := refreshAfter(hint, random); got < minRefresh*9/10 || got > maxRefresh*11/10 {
			t.Errorf("a hint of %s is followed after %s", hint, got)
		}
		failures := rapid.IntRange(1, 1<<20).Draw(t, "failures")
		if got := retryAfter(failures, hint, random); got < backoffFloor || got > backoffMax {
			t.Errorf("failure %d is tried again after %s", failures, got)
		}
	})
	for _, c := range []struct {
		hint        time.Duration
		least, most time.Duration
	}{
		{0, 4*time.Minute + 30*time.Second, 5*time.Minute + 30*time.Second},
		{time.Second, 27 * time.Second, 33 * time.Second},
		{10 * time.Minute, 9 * time.Minute, 11 * time.Minute},
		{1000 * time.Hour, 54 * time.Minute, 66 * time.Minute},
	} {
		if low, high := refreshAfter(c.hint, 0), refreshAfter(c.hint, 1); low != c.least || high != c.most {
			t.Errorf("hint %s: %s to %s, want %s to %s", c.hint, low, high, c.least, c.most)
		}
	}
}

// On a fake clock: the hint is followed, failures back off and never reach beyond
// the refresh that was due, and a success resets them.
func TestFollowerAsksWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, own := identitytest.NewCA("far.test"), identitytest.NewCA("own.test")
		source := own.Source(own.ID("/fed"))
		f, err := NewFollower(FollowerOptions{
			TrustDomain: far.TrustDomain(), Identity: source, Endpoint: Endpoint{URL: "https://far.test/", Profile: Web},
			Take:   func(d []byte) error { return source.SetPeerBundle(far.TrustDomain(), d) },
			Random: func() float64 { return 0.999 },
		})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // guards the next two
		var asked []time.Duration
		var failing error
		began := time.Now()
		f.fetch = func(context.Context) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(began).Round(time.Second))
			return far.BundleJSON(1), failing // its hint is a minute
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(3*time.Minute + 30*time.Second)
		synctest.Wait()
		if want := []time.Duration{0, 66 * time.Second, 132 * time.Second, 198 * time.Second}; !equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
		mu.Lock()
		failing, asked = errors.New("down"), nil
		mu.Unlock()
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		// 264 s, then after 2, 4, 8, 16, 32 s and then each minute.
		if len(asked) < 7 || asked[0] != 264*time.Second || asked[1]-asked[0] > 2*time.Second || asked[6]-asked[5] > time.Minute || asked[6]-asked[5] < 50*time.Second {
			t.Errorf("asked at %v", asked)
		}
		if s := f.Status(); s.State != Failing || s.Failures != len(asked) || s.FetchedAt.IsZero() || s.Sequence != 1 {
			t.Errorf("status is %+v", s)
		}
		mu.Lock()
		failing = nil
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := f.Status(); s.State != OK || s.Failures != 0 || s.Err != nil || s.Refresh != time.Minute || time.Until(s.Next) > 66*time.Second {
			t.Errorf("status is %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func equal(a, b []time.Duration) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestEndpointProblems(t *testing.T) {
	good := Endpoint{URL: "https://far.test/", Profile: SPIFFE, SPIFFEID: "spiffe://far.test/x"}
	for _, c := range []struct {
		name   string
		change func(*Endpoint)
		field  string
	}{
		{"good", func(*Endpoint) {}, ""},
		{"port and path", func(e *Endpoint) { e.URL = "https://far.test:8443/a/b?c=d" }, ""},
		{"ipv6", func(e *Endpoint) { e.URL = "https://[::1]:8443/" }, ""},
		{"empty", func(e *Endpoint) { e.URL = "" }, "url"},
		{"http", func(e *Endpoint) { e.URL = "http://far.test/" }, "url"},
		{"file", func(e *Endpoint) { e.URL = "file:///etc/passwd" }, "url"},
		{"no scheme", func(e *Endpoint) { e.URL = "far.test" }, "url"},
		{"no host", func(e *Endpoint) { e.URL = "https:///x" }, "url"},
		{"port without host", func(e *Endpoint) { e.URL = "https://:443/x" }, "url"},
		{"opaque", func(e *Endpoint) { e.URL = "https:far.test" }, "url"},
		{"user", func(e *Endpoint) { e.URL = "https://me@far.test/" }, "url"},
		{"user and password", func(e *Endpoint) { e.URL = "https://me:secret@far.test/" }, "url"},
		{"empty user", func(e *Endpoint) { e.URL = "https://@far.test/" }, "url"},
		{"fragment", func(e *Endpoint) { e.URL = "https://far.test/#x" }, "url"},
		{"control characters", func(e *Endpoint) { e.URL = "https://far.test/\n" }, "url"},
		{"too long", func(e *Endpoint) { e.URL += string(make([]byte, maxURL)) }, "url"},
		{"no profile", func(e *Endpoint) { e.Profile = "" }, "profile"},
		{"another profile", func(e *Endpoint) { e.Profile = "https" }, "profile"},
		{"no id", func(e *Endpoint) { e.SPIFFEID = "" }, "spiffe_id"},
		{"id without a path", func(e *Endpoint) { e.SPIFFEID = "spiffe://far.test" }, "spiffe_id"},
		{"id with web", func(e *Endpoint) { e.Profile = Web }, "spiffe_id"},
		{"ca with spiffe", func(e *Endpoint) { e.CAFile = "/x" }, "ca_file"},
	} {
		e := good
		c.change(&e)
		got := ""
		for _, p := range e.Problems() {
			got = p.Field
		}
		if got != c.field {
			t.Errorf("%s: problem with %q, want %q: %v", c.name, got, c.field, e.Problems())
		}
	}
}

// FuzzEndpointURL: whatever passes is https with a host and nothing to leak.
func FuzzEndpointURL(f *testing.F) {
	f.Add("https://far.test/")
	f.Add("https://me:secret@far.test/#x")
	f.Add("https://[::1%25eth0]:1/")
	f.Fuzz(func(t *testing.T, raw string) {
		if urlRule(raw) != "" {
			return
		}
		if len(raw) < len("https://x") || len(raw) > maxURL {
			t.Errorf("%q passed", raw)
		}
	})
}
