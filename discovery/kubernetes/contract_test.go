package kubernetes_test

import (
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
)

// The contract of every source, against the real API server.
func TestContract(t *testing.T) {
	discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
		c := newCluster(t)
		set := func(content discoverytest.Content) {
			c.set(content)
			c.proxy.Set()
		}
		return discoverytest.Backend{
			Source: c.source(c.config()),
			Set:    set,
			Fail: func(on bool) {
				if !on {
					c.proxy.Set()
					return
				}
				c.proxy.Set(kubetest.Fault{Status: http.StatusServiceUnavailable})
				c.proxy.Drop()
			},
			// What was known is too old to go on from, and no list gets through.
			Cut: func(content discoverytest.Content) {
				c.proxy.Set(
					kubetest.Fault{Fits: listed("services"), Cut: 200},
					kubetest.Fault{Fits: listed("endpointslices"), Cut: 200},
					kubetest.Fault{Fits: watched, Status: http.StatusGone},
				)
				c.proxy.Drop()
				c.set(content)
			},
			PerService: true,
			Ignore: []goleak.Option{
				// The proxy's, and those of the test's own client behind it.
				goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
				goleak.IgnoreAnyFunction("net/http.(*http2serverConn).readFrames"),
				goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
			},
		}
	})
}
