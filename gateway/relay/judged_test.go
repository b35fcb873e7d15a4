package relay_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// What a condition sees of a request's fields is what the next hop is sent.
func TestFieldsAreJudgedAsTheyAreForwarded(t *testing.T) {
	for connection, want := range map[string]string{
		"":                             "acme",
		"keep-alive":                   "acme",
		"X-Tenant":                     "",
		"close, x-tenant":              "",
		"upgrade\nkeep-alive,X-TENANT": "",
		"X_Tenant":                     "acme",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://web/", nil)
		r.Header.Set("X-Tenant", "acme")
		r.Header.Set("Upgrade", "websocket")
		if connection != "" {
			r.Header["Connection"] = strings.Split(connection, "\n")
		}
		var sent http.Header
		relay.NewProxy(relay.ProxyOptions{
			Rewrite:   func(p *httputil.ProxyRequest) { sent = p.Out.Header.Clone() },
			Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }),
			Failed:    func(http.ResponseWriter, *http.Request, error) {},
		}).ServeHTTP(httptest.NewRecorder(), r)
		judged := http.Header(relay.Judged(r).Header)
		if judged.Get("X-Tenant") != want || sent.Get("X-Tenant") != want {
			t.Errorf("Connection %q: judged %q, sent %q, want %q", connection, judged.Get("X-Tenant"), sent.Get("X-Tenant"), want)
		}
		if r.Header.Get("X-Tenant") != "acme" || r.Header.Get("Upgrade") == "" {
			t.Errorf("Connection %q: the request itself has lost a field: %v", connection, r.Header)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
