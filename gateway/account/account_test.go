package account_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newAccount(t *testing.T, access account.Log) (*account.Account, *prometheus.Registry, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	a, err := account.New(account.Options{
		Access: access, Registerer: registry,
		Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, registry, &log
}

func services(names ...string) map[catalog.ServiceName]bool {
	known := make(map[catalog.ServiceName]bool)
	for _, n := range names {
		known[catalog.MustServiceName(n)] = true
	}
	return known
}

// carry accounts one request of a service.
func carry(a *account.Account, service, reason string) {
	e := a.Begin(account.WayHTTP)
	e.Service, e.Cluster, e.Reason = catalog.MustServiceName(service), "beta", reason
	sent, received := e.Counters()
	sent.Add(10)
	received.Add(5)
	received.Add(5)
	if reason == account.ReasonOK {
		e.Answered()
	}
	e.End()
}

func TestEveryEntryIsCountedAndLoggedOnce(t *testing.T) {
	a, registry, log := newAccount(t, "")
	a.SetServices(services("web"))
	e := a.Begin(account.WayTCP)
	if a.InFlight(account.WayTCP) != 1 {
		t.Error("not in flight")
	}
	e.Service, e.Port, e.Caller, e.Cluster = catalog.MustServiceName("web"), "http", "spiffe://a.test/x", "beta"
	e.Attempts, e.Status, e.Reason, e.Err = 2, 503, "link_dead", errors.New("cause")
	e.End()
	if a.InFlight(account.WayTCP) != 0 {
		t.Error("still in flight")
	}
	want := `
# HELP isthmus_gateway_requests_total Connections (ways tcp, mtls and stream), flows (ways udp and flow) and requests that ended, by where they were served and why they ended.
# TYPE isthmus_gateway_requests_total counter
isthmus_gateway_requests_total{cluster="beta",reason="link_dead",service="web.default",way="tcp"} 1
# HELP isthmus_gateway_refusals_total Connections and requests that got no answer of the service, by reason.
# TYPE isthmus_gateway_refusals_total counter
isthmus_gateway_refusals_total{reason="link_dead",way="tcp"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "isthmus_gateway_requests_total", "isthmus_gateway_refusals_total"); err != nil {
		t.Error(err)
	}
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	delete(line, "time")
	delete(line, "duration")
	for key, value := range map[string]any{
		"level": "WARN", "msg": "access", "source": "tcp", "service": "web.default", "port": "http", "caller": "spiffe://a.test/x",
		"cluster": "beta", "reason": "link_dead", "attempt": 2.0, "status": 503.0, "count": 0.0, "err": "cause",
	} {
		if line[key] != value {
			t.Errorf("%s is %v, want %v", key, line[key], value)
		}
		delete(line, key)
	}
	if len(line) != 0 {
		t.Errorf("unexpected fields: %v", line)
	}
}

func TestSeriesGoWithTheirService(t *testing.T) {
	a, registry, _ := newAccount(t, account.LogOff)
	count := func() int {
		n, err := testutil.GatherAndCount(registry)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	carry(a, "stranger", account.ReasonOK) // what the table does not have is one series
	base := count()
	for range 20 {
		a.SetServices(services("web", "billing"))
		for _, s := range []string{"web", "billing", "stranger", "another-stranger"} {
			carry(a, s, account.ReasonOK)
		}
		a.SetServices(services())
		carry(a, "web", account.ReasonOK) // one that ends after its service left
	}
	if got := count(); got != base {
		t.Errorf("%d series after churn, %d before", got, base)
	}
}

func TestTheAccessLogCanBeQuiet(t *testing.T) {
	for access, want := range map[account.Log][]string{
		account.LogAll: {"ok", "reset"}, account.LogErrors: {"reset"}, account.LogOff: nil,
	} {
		a, _, log := newAccount(t, access)
		carry(a, "web", "ok")
		carry(a, "web", "reset")
		var got []string
		for line := range strings.Lines(log.String()) {
			var entry struct{ Reason string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			got = append(got, entry.Reason)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: logged %v, want %v", access, got, want)
		}
	}
	if _, err := account.New(account.Options{Access: "loud"}); err == nil {
		t.Error("an unknown setting is accepted")
	}
}
