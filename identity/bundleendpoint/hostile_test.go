package bundleendpoint_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// refused runs one follower against a hostile server and returns why the first
// fetch failed; the pinned bundle must have stayed in force.
func (w *world) refused(url string, change func(*bundleendpoint.FollowerOptions)) error {
	w.t.Helper()
	f := w.follow(url, change)
	stop := run(w.t, f)
	eventually(w.t, "the first fetch ends", func() bool { return f.Status().State != bundleendpoint.Starting })
	stop()
	s := f.Status()
	if s.State != bundleendpoint.Failing || s.Err == nil || s.Failures < 1 || !s.FetchedAt.IsZero() {
		w.t.Fatalf("status is %+v", s)
	}
	if got := w.sequence(); got != 1 {
		w.t.Fatalf("the bundle in force has number %d, want the pinned one's", got)
	}
	return s.Err
}

func reason(err error) identity.Reason {
	if peer, ok := errors.AsType[*identity.PeerError](err); ok {
		return peer.Reason
	}
	return ""
}

func TestHostileAnswersLeaveTheLastGoodBundle(t *testing.T) {
	good := func(w *world) []byte { return w.far.BundleJSON(2) }
	write := func(status int, header http.Header, body []byte) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			maps.Copy(rw.Header(), header)
			rw.WriteHeader(status)
			_, _ = rw.Write(body)
		}
	}
	padded := func(document []byte) []byte { // valid JSON that is too large
		return append(bytes.Repeat([]byte(" "), identity.MaxBundleBytes), document...)
	}
	for name, c := range map[string]struct {
		answer func(w *world) http.HandlerFunc
		want   error
	}{
		"status 500 with a good body":    {func(w *world) http.HandlerFunc { return write(500, nil, good(w)) }, bundleendpoint.ErrStatus},
		"status 404 with a good body":    {func(w *world) http.HandlerFunc { return write(404, nil, good(w)) }, bundleendpoint.ErrStatus},
		"status 203 with a good body":    {func(w *world) http.HandlerFunc { return write(203, nil, good(w)) }, bundleendpoint.ErrStatus},
		"status 206, a part":             {func(w *world) http.HandlerFunc { return write(206, nil, good(w)) }, bundleendpoint.ErrStatus},
		"status 304 without a condition": {func(*world) http.HandlerFunc { return write(304, nil, nil) }, bundleendpoint.ErrStatus},
		"empty body":                     {func(*world) http.HandlerFunc { return write(200, nil, nil) }, identity.ErrMalformedBundle},
		"no json":                        {func(*world) http.HandlerFunc { return write(200, nil, []byte("<html>")) }, identity.ErrMalformedBundle},
		"json of something else":         {func(*world) http.HandlerFunc { return write(200, nil, []byte(`{"hello":1}`)) }, identity.ErrMalformedBundle},
		"empty set of keys":              {func(*world) http.HandlerFunc { return write(200, nil, []byte(`{"keys":[],"spiffe_sequence":9}`)) }, identity.ErrEmptyBundle},
		"sequence goes back":             {func(w *world) http.HandlerFunc { return write(200, nil, w.far.BundleJSON(0)) }, identity.ErrSequenceRollback},
		"same sequence, another root": {func(w *world) http.HandlerFunc {
			return write(200, nil, identitytest.NewCA("far.test").BundleJSON(1))
		}, identity.ErrSequenceRollback},
		"roots of another domain": {func(w *world) http.HandlerFunc {
			return write(200, nil, identitytest.BundleJSON(w.far.TrustDomain(), 2, w.own.Certificate()))
		}, identity.ErrMalformedBundle},
		"leaf as a root": {func(w *world) http.HandlerFunc {
			return write(200, nil, identitytest.BundleJSON(w.far.TrustDomain(), 2, w.far.SVID(w.farID).Certificates[0]))
		}, identity.ErrMalformedBundle},
		"larger than announced": {func(w *world) http.HandlerFunc {
			body := padded(good(w))
			return func(rw http.ResponseWriter, _ *http.Request) {
				rw.WriteHeader(200)
				rw.(http.Flusher).Flush() // chunked: no length is announced
				_, _ = rw.Write(body)
			}
		}, identity.ErrTooLarge},
		"large and announced": {func(w *world) http.HandlerFunc { return write(200, nil, padded(good(w))) }, identity.ErrTooLarge},
		"compressed": {func(w *world) http.HandlerFunc {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(good(w))
			_ = z.Close()
			return write(200, http.Header{"Content-Encoding": {"gzip"}}, b.Bytes())
		}, bundleendpoint.ErrEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).pin()
			if err := w.refused(w.serve(c.answer(w)), nil); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Redirects are refused wherever they lead, also to a server that would pass.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			w := newWorld(t).pin()
			var reached atomic.Bool
			elsewhere := w.serve(func(rw http.ResponseWriter, _ *http.Request) {
				reached.Store(true)
				_, _ = rw.Write(w.far.BundleJSON(7))
			})
			url := w.serve(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, elsewhere, code) })
			if err := w.refused(url, nil); !errors.Is(err, bundleendpoint.ErrStatus) || reached.Load() {
				t.Errorf("got %v, the other server was reached: %v", err, reached.Load())
			}
		})
	}
}

// An endless header or body costs a fetch, not memory and not more than its time.
func TestEndlessAnswersEnd(t *testing.T) {
	t.Run("header", func(t *testing.T) {
		w := newWorld(t).pin()
		err := w.refused(w.serve(func(rw http.ResponseWriter, _ *http.Request) {
			for i := range 64 {
				rw.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("a", 1024))
			}
			_, _ = rw.Write(w.far.BundleJSON(2))
		}), nil)
		t.Log(err)
	})
	t.Run("body by drops", func(t *testing.T) {
		w := newWorld(t).pin()
		began := time.Now()
		err := w.refused(w.serve(func(rw http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if _, err := rw.Write([]byte(" ")); err != nil {
						return
					}
					rw.(http.Flusher).Flush()
				case <-r.Context().Done():
					return
				}
			}
		}), nil)
		t.Logf("figure: an endless answer was given up after %s: %v", time.Since(began).Round(10*time.Millisecond), err)
	})
}

func TestServerMustBeWhoIsConfigured(t *testing.T) {
	answer := func(w *world) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.far.BundleJSON(2)) }
	}
	t.Run("another id of the same domain", func(t *testing.T) {
		w := newWorld(t).pin()
		url := w.serveTLS(answer(w), w.far.Source(w.far.ID("/other")).EndpointServerTLS())
		if err := w.refused(url, nil); reason(err) != identity.ReasonUnauthorized {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the right id below a foreign root", func(t *testing.T) {
		w := newWorld(t).pin()
		forger := identitytest.NewCA("far.test")
		url := w.serveTLS(answer(w), forger.Source(w.farID).EndpointServerTLS())
		if err := w.refused(url, nil); reason(err) != identity.ReasonUntrustedChain {
			t.Errorf("got %v", err)
		}
	})
	t.Run("own domain's root signs the far id", func(t *testing.T) {
		w := newWorld(t).pin()
		url := w.serveTLS(answer(w), identity.NewStatic(w.own.SVID(w.farID)).EndpointServerTLS())
		if err := w.refused(url, nil); reason(err) != identity.ReasonUntrustedChain {
			t.Errorf("got %v", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		w := newWorld(t).pin()
		svid := w.far.Expired(w.farID)
		cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}}}
		if err := w.refused(w.serveTLS(answer(w), cfg), nil); reason(err) != identity.ReasonExpired {
			t.Errorf("got %v", err)
		}
	})
	t.Run("web certificate where an svid is wanted", func(t *testing.T) {
		w := newWorld(t).pin()
		cert := writeWebCert(t, t.TempDir(), nil)
		url := w.serveTLS(answer(w), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert.pair}})
		if err := w.refused(url, nil); reason(err) != identity.ReasonMalformedID {
			t.Errorf("got %v", err)
		}
	})
	t.Run("tls 1.2", func(t *testing.T) {
		w := newWorld(t).pin()
		cfg := w.far.Source(w.farID).EndpointServerTLS()
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		_ = w.refused(w.serveTLS(answer(w), cfg), nil)
	})
	t.Run("nobody listens", func(t *testing.T) {
		w := newWorld(t).pin()
		_ = w.refused("https://127.0.0.1:1/", nil)
	})
	web := func(ca string) func(*bundleendpoint.FollowerOptions) {
		return func(o *bundleendpoint.FollowerOptions) {
			o.Endpoint.Profile, o.Endpoint.SPIFFEID, o.Endpoint.CAFile = bundleendpoint.Web, "", ca
		}
	}
	t.Run("web certificate of another authority", func(t *testing.T) {
		w := newWorld(t).pin()
		cert, other := writeWebCert(t, t.TempDir(), nil), writeWebCert(t, t.TempDir(), nil)
		url := w.serveTLS(answer(w), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert.pair}})
		err := w.refused(url, web(other.ca))
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
	t.Run("web certificate of another host", func(t *testing.T) {
		w := newWorld(t).pin()
		cert := writeWebCert(t, t.TempDir(), func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"elsewhere.test"}, nil })
		url := w.serveTLS(answer(w), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert.pair}})
		err := w.refused(url, web(cert.ca))
		if _, ok := errors.AsType[x509.HostnameError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
	t.Run("svid where a web certificate is wanted", func(t *testing.T) {
		w := newWorld(t).pin()
		cert := writeWebCert(t, t.TempDir(), nil)
		err := w.refused(w.serve(answer(w)), web(cert.ca))
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnpinnedDomainIsNotTrustedOnFirstUse(t *testing.T) {
	w := newWorld(t)
	f := w.follow(w.serve(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.far.BundleJSON(2)) }), nil)
	run(t, f)
	eventually(t, "the first fetch ends", func() bool { return f.Status().State != bundleendpoint.Starting })
	if err := f.Status().Err; reason(err) != identity.ReasonUnknownTrustDomain || w.sequence() != 0 {
		t.Errorf("got %v, and the bundle has number %d", err, w.sequence())
	}
}
