package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func TestSmoke(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.Header.Get("X-Forwarded-Client-Cert"))
	}))
	defer s.Close()
	w.cluster("beta").host("billing", catalog.HTTP, s.Listener.Addr())
	near := w.cluster("alpha").gateway("gw1", "billing")
	w.cluster("beta").gateway("gw1")
	w.start()
	for _, target := range []string{near.Addrs().HTTP.String(), near.Addrs().TCP[0].String()} {
		req, _ := http.NewRequest(http.MethodGet, "http://"+target+"/", nil)
		req.Host = "billing.default.mesh"
		resp, err := (&http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		t.Logf("%d %q %v %v", resp.StatusCode, b, resp.Header, err)
	}
}
