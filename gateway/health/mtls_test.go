package health_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// An endpoint that speaks mTLS is asked over it, where the check asks anything; that
// its mesh denies the gateway makes it no worse for a check that only connects.
func TestEndpointsThatSpeakMTLSAreCheckedOverIt(t *testing.T) {
	ca := identitytest.NewCA("own.test")
	svid := ca.SVID(ca.ID("/db"))
	cert := tls.Certificate{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}
	var denies atomic.Bool
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(inner, &tls.Config{
		ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{cert},
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
			if denies.Load() {
				return errors.New("no")
			}
			return nil
		},
	})
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })

	live, err := workload.NewLive(nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer := workload.NewDialer(workload.NewIdentities(ca.Source(ca.ID("/gw"))), live)
	c, changes := start(t, health.Options{Secure: dialer.Secure})
	is := func(id string, healthy bool) {
		t.Helper()
		for c.States()[key(id)].Since.IsZero() || c.States()[key(id)].Healthy != healthy {
			next(t, changes)
		}
	}
	server := ca.ID("/db").String()
	c.SetTargets([]health.Target{
		{Key: key("http"), Address: addr(t, l.Addr()), Server: server, Check: fast("http", "/")},
		{Key: key("tcp"), Address: addr(t, l.Addr()), Server: server, Check: fast("tcp", "")},
		{Key: key("impostor"), Address: addr(t, l.Addr()), Server: ca.ID("/other").String(), Check: fast("http", "/")},
	})
	is("http", true)
	is("tcp", true)
	is("impostor", false)
	denies.Store(true)
	is("http", false)
	is("tcp", true) // it only connects
}
