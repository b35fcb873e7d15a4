package consulmesh_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

type ctx = context.Context

// rootsChange gives both meshes another root while calls go on, each on connections
// of its own at every leg. Consul spreads the renewal of leaves over half a minute.
func (w *world) rootsChange(t *testing.T) {
	w.settle(t)
	billing := stand.StartLoad(t.Context(), 20, 20*time.Second, w.get)
	ledger := stand.StartLoad(t.Context(), 20, 20*time.Second, w.say)
	time.Sleep(time.Second)
	begin := time.Now()
	renewed := map[*mesh]int{}
	for _, m := range []*mesh{w.west, w.east} {
		renewed[m] = m.gateway().LogCount("svid updated")
		w.key, w.roots[m] = m.newRoot()
	}
	for _, m := range []*mesh{w.west, w.east} {
		g := m.gateway()
		stand.Eventually(t, within, "the gateway of "+m.name+" has certificates of the new root", func() error {
			if g.LogCount("svid updated") <= renewed[m] {
				return errNot
			}
			if m == w.east {
				return shownBelow(w.doors["billing"], w.roots[m])
			}
			return nil
		})
		stand.Figure(t, "%s: the gateway has a certificate of the new root after %.1f s", m.name, time.Since(begin).Seconds())
	}
	stand.Eventually(t, within, "billing's sidecar has one, too", func() error { return shownBelow(w.behind, w.roots[w.west]) })
	time.Sleep(time.Second)
	for name, load := range map[string]*stand.Load{"billing (http)": billing, "ledger (tcp)": ledger} {
		rs := load.Stop()
		stand.Figure(t, "new roots in both meshes, %s: %d calls, %d failed, p99 %d ms", name, len(rs), len(rs.Failed()), rs.Quantile(0.99).Milliseconds())
		if len(rs.Failed()) > 0 {
			t.Errorf("%s: %s", name, rs.Errors())
		}
	}
}

// settle waits until what went before has no effect on calls any more: Consul learns
// some seconds later that a gateway was away, and then that it is back.
func (w *world) settle(t *testing.T) {
	t.Helper()
	stand.Eventually(t, within, "calls pass for three seconds", func() error {
		billing, ledger := stand.StartLoad(t.Context(), 20, 20*time.Second, w.get), stand.StartLoad(t.Context(), 20, 20*time.Second, w.say)
		time.Sleep(3 * time.Second)
		for _, rs := range []stand.Results{billing.Stop(), ledger.Stop()} {
			if len(rs.Failed()) > 0 {
				return fmt.Errorf("%d of %d calls failed: %s", len(rs.Failed()), len(rs), rs.Errors())
			}
		}
		return nil
	})
}

// shownBelow is nil if the certificate that is shown at an address hangs from root alone.
func shownBelow(at netip.AddrPort, root *x509.Certificate) error {
	c, err := tls.Dial("tcp", at.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	roots := x509.NewCertPool()
	roots.AddCert(root)
	chain := c.ConnectionState().PeerCertificates
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots})
	return err
}

// leavesChange lets the east's agent forget its leaves, so that it hands out new ones,
// while calls go on over connections that are open. (Sidecars ask the agent for each
// new connection, so that none can be made while it is away.)
func (w *world) leavesChange(t *testing.T) {
	w.settle(t)
	g := w.east.gateway()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 4}}
	t.Cleanup(client.CloseIdleConnections)
	call := func(ctx ctx) (string, error) { return w.getBy(ctx, client) }
	for range 8 {
		if _, err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	load := stand.StartLoad(t.Context(), 20, 20*time.Second, call)
	time.Sleep(time.Second)
	before, renewed := len(load.Sofar()), g.LogCount("svid updated")
	w.east.Kill()
	time.Sleep(time.Second)
	during := len(load.Sofar()) - before
	w.east.Restart()
	stand.Eventually(t, within, "the gateway has new leaves", func() error {
		if g.LogCount("svid updated") < renewed+3 { // billing, ledger, its own
			return errNot
		}
		return nil
	})
	time.Sleep(time.Second)
	rs := load.Stop()
	stand.Figure(t, "agent killed and restored, new leaves: %d calls, %d of them without an agent, %d failed", len(rs), during, len(rs.Failed()))
	if len(rs.Failed()) > 0 || during == 0 {
		t.Error(rs.Errors())
	}
	w.until("new connections", w.get, "URI="+w.east.id("web"))
}

// consulDies: without its agent a gateway goes on, by the last answers; and it starts
// with the certificates that it kept, though without those answers.
func (w *world) consulDies(t *testing.T) {
	web := w.east.leaf("web")
	call := func(ctx) (string, error) { return w.enter("ledger", web) }
	w.until("web is asked about", call, "hello\n")
	g := w.east.gateway()
	w.east.Kill()
	time.Sleep(3 * time.Second) // the answer is not fresh any more
	if got, err := w.enter("ledger", web); err != nil {
		t.Errorf("a new connection without an agent: %q, %v", got, err)
	}
	g.Stop()
	g.Start()
	g.AwaitReady()
	stand.Eventually(t, within, "who was never asked about is refused", func() error {
		if got, err := w.enter("ledger", web); err == nil {
			t.Fatalf("answered %q", got)
		}
		if metric(t, g, "isthmus_gateway_mtls_handshakes_total", `side="in"`, `result="consul_unknown"`) == 0 {
			return errNot
		}
		return nil
	})
	w.east.Restart()
	w.until("the agent is back", call, "hello\n")
	if n := metric(t, g, "isthmus_gateway_mesh_identity_not_after_seconds", `service="ledger"`); n < float64(time.Now().Unix()) {
		t.Errorf("the certificate is good until %v", n)
	}
}
