package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// limit gives a service of the cluster's tables limits.
func (c *cluster) limit(service string, l policy.Limits) {
	if c.traffic == nil {
		c.traffic = make(map[string]*policy.Traffic)
	}
	c.traffic[service] = &policy.Traffic{Name: "limits", Services: []policy.ServicePattern{"*"}, Limits: &l}
}

// slowly is a rate of n calls a minute, and no more in a test.
func slowly(n uint32) policy.Limits {
	return policy.Limits{Rates: []policy.RateLimit{{Name: "few", Requests: n, IntervalMS: 60_000, Scope: policy.PerGateway}}}
}

// blameless fails where what a limit refused counts against the service.
func (n *node) blameless(t *testing.T, service string) {
	t.Helper()
	n.reportNow(t, func(r *route.Report) error {
		for _, target := range r.Targets {
			if target.Target.Service == catalog.MustServiceName(service) && (target.Failures > 0 || !target.EjectedUntil.IsZero()) {
				t.Errorf("%+v", target)
			}
		}
		return nil
	})
}

// reportNow waits for a report that check takes.
func (n *node) reportNow(t *testing.T, check func(*route.Report) error) {
	t.Helper()
	before := n.reports.last()
	eventually(t, "a report", func() error {
		r := n.reports.last()
		if r == nil || r == before {
			return fmt.Errorf("none yet")
		}
		return check(r)
	})
}

// TestRateLimits: over a rate of the own cluster, or of the far one, a caller gets 429
// with the time to stay away, a connection is reset, and the service is not blamed.
func TestRateLimits(t *testing.T) {
	for _, where := range []catalog.ClusterName{"alpha", "beta"} {
		t.Run("of "+string(where), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "alpha", "beta")
			w.cluster("beta").host("web", catalog.HTTP, httpServer(t, who("web"))).host("echo", catalog.TCP, tcpServer(t, echo))
			w.cluster(where).limit("web", slowly(2))
			w.cluster(where).limit("echo", slowly(2))
			near := w.cluster("alpha").gateway("gw1", "echo")
			far := w.cluster("beta").gateway("gw1")
			w.start()
			c := near.client()
			for i := range 4 {
				status, header, body := get(t, c, "http://web.default.mesh/")
				if i < 2 {
					if status != http.StatusOK {
						t.Fatalf("call %d: %d %s", i, status, body)
					}
					continue
				}
				after, _ := strconv.Atoi(header.Get("Retry-After"))
				if status != http.StatusTooManyRequests || header.Get("Isthmus-Reason") != "rate_limited" || after < 1 || after > 60 {
					t.Errorf("call %d: %d %v %s", i, status, header, body)
				}
			}
			for range 2 {
				conn := near.dial(0)
				if _, err := conn.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Fatalf("a connection within the rate: %v", err)
				}
				_ = conn.Close()
			}
			if err := near.refusal(0); err == nil {
				t.Error("a third connection is served")
			}
			limiter := near
			if where == "beta" {
				limiter = far
			}
			for _, service := range []string{"web.default", "echo.default"} {
				if n := limiter.metric("isthmus_gateway_rate_calls_total", "service="+service, "rate=few", "result=admitted"); n != 2 {
					t.Errorf("%s: %v calls are admitted", service, n)
				}
				near.blameless(t, service)
			}
		})
	}
}

// held is a service whose requests last until they are released.
func held(t *testing.T) (serve http.HandlerFunc, release func()) {
	t.Helper()
	hold := make(chan struct{})
	released := false
	release = func() {
		if !released {
			released = true
			close(hold)
		}
	}
	t.Cleanup(release)
	return func(http.ResponseWriter, *http.Request) { <-hold }, release
}

// inProgress calls n times in the background and returns once the cluster's gateway
// counts so many. wait returns when they have ended.
func inProgress(t *testing.T, near, counts *node, n int, metric string) (wait func()) {
	t.Helper()
	done := make(chan struct{}, n)
	for range n {
		go func() {
			defer func() { done <- struct{}{} }()
			if resp, err := near.client().Get("http://web.default.mesh/"); err == nil {
				_ = resp.Body.Close()
			}
		}()
	}
	eventually(t, fmt.Sprint(n, " requests in progress"), func() error {
		if got := counts.metric(metric); got != float64(n) {
			return fmt.Errorf("%s %v", metric, got)
		}
		return nil
	})
	return func() {
		for range n {
			<-done
		}
	}
}

// TestConcurrencyLimit: requests beyond what the far cluster's endpoints may have in
// progress get 503 and why; their places come free again.
func TestConcurrencyLimit(t *testing.T) {
	serve, release := held(t)
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, serve))
	w.cluster("beta").limit("web", policy.Limits{Concurrency: &policy.Concurrency{Max: 2}, Queue: &policy.Queue{NoWait: true}})
	near, far := w.cluster("alpha").gateway("gw1"), w.cluster("beta").gateway("gw1")
	w.start()
	wait := inProgress(t, near, far, 2, "isthmus_gateway_concurrency_in_progress")
	status, header, body := get(t, near.client(), "http://web.default.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "queue_full" || header.Get("Retry-After") != "1" {
		t.Errorf("a third: %d %v %s", status, header, body)
	}
	if n := far.metric("isthmus_gateway_queue_refusals_total", "reason=queue_full"); n == 0 {
		t.Error("it is not counted")
	}
	near.blameless(t, "web.default")
	release()
	wait()
	if status, _, _ := get(t, near.client(), "http://web.default.mesh/"); status != http.StatusOK {
		t.Errorf("once there is room: %d", status)
	}
	eventually(t, "places come free", func() error {
		if n := far.metric("isthmus_gateway_concurrency_in_progress"); n != 0 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// TestOverloadGoesElsewhere: what has no room at the own endpoints, or behind a breaker,
// goes to the next cluster, as a first attempt; and is refused where there is none.
func TestOverloadGoesElsewhere(t *testing.T) {
	for name, limits := range map[string]policy.Limits{
		"queue_full":   {Concurrency: &policy.Concurrency{Max: 1}, Queue: &policy.Queue{NoWait: true}, Breaker: &policy.Breaker{MaxRequests: 1}},
		"breaker_open": {Breaker: &policy.Breaker{MaxPending: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve, release := held(t)
			w := newWorld(t, "alpha", "beta")
			w.cluster("alpha").host("web", catalog.HTTP, httpServer(t, serve))
			w.cluster("beta").host("web", catalog.HTTP, httpServer(t, serve))
			w.cluster("alpha").limit("web", limits)
			near := w.cluster("alpha").gateway("gw1")
			w.cluster("beta").gateway("gw1")
			w.start()
			first := inProgress(t, near, near, 2, "isthmus_gateway_http_requests")
			eventually(t, "one each", func() error {
				for _, cluster := range []string{"alpha", "beta"} {
					if n := near.metric("isthmus_gateway_breaker_under_way", "cluster="+cluster, "bound=pending"); n != 1 {
						return fmt.Errorf("%s: %v", cluster, n)
					}
				}
				return nil
			})
			status, header, _ := get(t, near.client(), "http://web.default.mesh/")
			if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "breaker_open" {
				t.Errorf("a third: %d %v", status, header)
			}
			if n := near.metric("isthmus_gateway_retries_total"); n != 0 {
				t.Errorf("%v retries: nothing was tried", n)
			}
			release()
			first()
		})
	}
}
