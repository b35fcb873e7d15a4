package tunnel_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// A gateway of a version that knows no subsets would send a call for one of them anywhere:
// it gets none of those, and all others. The refusal is typed, so that the call goes on to
// another cluster, and says nothing of the service. One that is upgraded gets them.
func TestAnOlderPeerGetsNoCallForASubset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _, a, b := rotors(t, time.Hour, nil)
		defer m.Close()
		b.WithoutSubsets()
		m.Connect()
		a.WaitLink(b, tunnel.StateUp)
		subset := echoHeader()
		subset.Subset = "version=2"
		refused := func(what string, err error) {
			t.Helper()
			e, ok := errors.AsType[*tunnel.RefusedError](err)
			if !ok || e.Status != wire.Version || e.Cluster != "west" || e.Gateway == "" {
				t.Errorf("%s for a subset: %v", what, err)
			}
		}
		_, err := a.OpenStream(t.Context(), "west", subset, nil)
		refused("a stream", err)
		refused("a request", failure(t, a, subset, request(t, http.MethodGet, "http://echo.default.mesh/", nil)))
		if s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x")); err != nil {
			t.Errorf("a stream for the service as a whole: %v", err)
		} else {
			_ = s.Close()
		}
		if _, err := a.OpenStream(t.Context(), "nowhere", subset, nil); err == nil {
			t.Error("a stream to a cluster without a link")
		} else if _, ok := errors.AsType[*tunnel.LinkError](err); !ok {
			t.Errorf("without a link: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		m, _, _, a, b := rotors(t, time.Hour, nil)
		defer m.Close()
		m.Connect()
		a.WaitLink(b, tunnel.StateUp)
		subset := echoHeader()
		subset.Subset = "version=2"
		s, err := a.OpenStream(t.Context(), "west", subset, []byte("x"))
		if err != nil {
			t.Fatalf("an upgraded peer: %v", err)
		}
		_ = s.Close()
	})
}
