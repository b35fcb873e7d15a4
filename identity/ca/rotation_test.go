package ca_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// exchange makes one mutually authenticated connection over loopback TCP and sends
// a byte each way.
func exchange(t *testing.T, client, server *identity.Source) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn = tls.Server(conn, server.ServerTLS([]string{alpn}, identity.AuthorizeIDs(client.ID())))
			_, err = io.CopyN(conn, conn, 1)
			_ = conn.Close()
		}
		served <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d := tls.Dialer{Config: client.ClientTLS([]string{alpn}, identity.AuthorizeIDs(server.ID()))}
	conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err == nil {
		if _, err = conn.Write([]byte{1}); err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
		}
		_ = conn.Close()
	}
	if serr := <-served; err == nil {
		err = serr
	}
	return err
}

// SVIDs of three seconds and roots of twelve: every handshake between two processes
// must succeed while SVIDs change, a second root joins the bundle and starts to sign.
func TestRotationOfSVIDsAndRootsDisturbsNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t, domainA, "/client", "/server")
	cfg.SVIDTTL, cfg.CATTL = 3*time.Second, 12*time.Second
	c, _ := start(t, cfg, ca.Options{})
	client := follow(t, identity.Options{WorkloadAPI: c.Address(), ID: id(domainA, "/client")})
	server := follow(t, identity.Options{WorkloadAPI: c.Address(), ID: id(domainA, "/server")})

	serials, signers := map[string]bool{}, map[string]bool{}
	handshakes, roots := 0, 0
	deadline := time.Now().Add(patience)
	for ; len(serials) < 4 || len(signers) < 2 || roots < 2; handshakes++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d svids, %d signing roots, at most %d roots at once", len(serials), len(signers), roots)
		}
		if err := exchange(t, client, server); err != nil {
			t.Fatalf("handshake %d: %v", handshakes, err)
		}
		serials[client.Serial()] = true
		signers[string(peerOf(t, client)[0].AuthorityKeyId)] = true
		roots = max(roots, client.Bundles()[0].Authorities)
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d handshakes, %d svids, %d signing roots, at most %d roots at once", handshakes, len(serials), len(signers), roots)
	if roots > 3 {
		t.Errorf("%d roots at once", roots)
	}
}

// A root that cannot be saved is not used; the old ones sign on, and the step is
// taken when there is room again.
func TestRootsThatCannotBeSavedAreNotUsed(t *testing.T) {
	t.Parallel()
	cfg := config(t, domainA, "/gw")
	cfg.SVIDTTL, cfg.CATTL = 3*time.Second, 12*time.Second
	reg := prometheus.NewRegistry()
	c, _ := start(t, cfg, ca.Options{Registerer: reg})
	before, err := c.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a failed write", func() bool {
		return testutil.ToFloat64(collector(t, reg, "isthmus_ca_write_errors_total")) > 0
	})
	if now, err := c.Bundle(); err != nil || !bytes.Equal(now, before) {
		t.Fatalf("a root that is nowhere on disk was published: %s, %v", now, err)
	}
	if _, err := client(t, c).FetchX509SVID(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next root", func() bool {
		now, err := os.ReadFile(cfg.BundleFile)
		return err == nil && !bytes.Equal(now, before)
	})
}
