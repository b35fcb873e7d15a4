package gateway_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// lockedBuffer is written by a logger and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestCallersAreReportedAndDecisionsLogged: the gateway in front of a service tells its
// federation who called what and how it was judged, and logs what it denied.
func TestCallersAreReportedAndDecisionsLogged(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	server := httpServer(t, func(http.ResponseWriter, *http.Request) {})
	w.cluster("beta").host("web", catalog.HTTP, server).host("db", catalog.TCP, tcpServer(t, echo))
	w.cluster("beta").rules = append(guarded("web.default"), policy.Intention{
		Name: "db", Services: []policy.ServicePattern{"db.default"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Allow,
	})
	near := w.cluster("alpha").gateway("gw1", "web", "db")
	far := w.cluster("beta").gateway("gw1")
	far.config.DecisionLog.Allowed = "sample"
	var log lockedBuffer
	far.log = slog.New(slog.NewTextHandler(&log, nil))
	seen := route.NewSightings(time.Hour, 1000)
	far.reports.each = func(r *route.Report) {
		for _, s := range r.Callers {
			seen.Add(s)
		}
	}
	w.start()
	c := near.client()
	for range 3 {
		get(t, c, "http://web.default.mesh/public/a?secret=1")
	}
	get(t, c, "http://web.default.mesh/private/x/y/z")
	get(t, c, "http://web.default.mesh//")
	conn := near.dial(1)
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if status, _ := raw(t, near.Addrs().TCP[0].String(), "GET /private HTTP/1.1\r\nHost: web.default\r\n\r\n"); status != http.StatusForbidden {
		t.Errorf("by the tcp way: %d", status)
	}

	want := map[string]bool{
		"web.default GET /public/a true allowed public 3": true, "web.default GET /private/x/* false default_deny  1": true,
		"web.default GET  false ambiguous_path  1": true, "db.default   true allowed db 1": true, "web.default GET /private false default_deny  1": true,
	}
	eventually(t, "the callers are reported", func() error {
		left := make(map[string]bool)
		for k := range want {
			left[k] = true
		}
		for _, s := range seen.Since(time.Now(), time.Hour) {
			if s.Caller != "spiffe://alpha.test/workload" || s.Peer != "alpha" {
				return fmt.Errorf("%+v", s)
			}
			path := s.Path
			if s.Prefix {
				path += "*"
			}
			delete(left, fmt.Sprintf("%s %s %s %v %s %s %d", s.Service, s.Method, path, s.Allowed, s.Reason, s.Rule, s.Count))
		}
		if len(left) > 0 {
			return fmt.Errorf("missing %v of %+v", left, seen.Since(time.Now(), time.Hour))
		}
		return nil
	})
	lines := log.String()
	for _, line := range []string{
		`msg="call denied" caller=spiffe://alpha.test/workload assurance=listener peer=alpha service=web.default port=main method=GET path=/private/x/y/z reason=default_deny epoch=1`,
		`msg="call denied" caller=spiffe://alpha.test/workload assurance=listener peer=alpha service=web.default port=main method=GET reason=ambiguous_path`,
		`msg="call allowed" caller=spiffe://alpha.test/workload assurance=listener peer=alpha service=web.default port=main method=GET path=/public/a reason=allowed rule=public`,
	} {
		if !strings.Contains(lines, line) {
			t.Errorf("the decision log lacks %q:\n%s", line, lines)
		}
	}
	if strings.Contains(lines, "secret") {
		t.Error("a query is logged")
	}
}
