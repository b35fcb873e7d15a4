package identity_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/quic-go/quic-go"
)

// quicServer accepts connections until the test ends and greets each on a stream.
func quicServer(t *testing.T, cfg *tls.Config) net.Addr {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: udp}
	l, err := transport.Listen(cfg, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				if s, err := conn.OpenUniStream(); err == nil {
					_, _ = s.Write([]byte("hello"))
					_ = s.Close()
				}
				<-conn.Context().Done()
			})
		}
	})
	t.Cleanup(func() {
		_ = transport.Close() // and with it the listener and every connection
		_ = udp.Close()
		wg.Wait()
	})
	return l.Addr()
}

// quicDial connects and reads the greeting: a QUIC client finishes its handshake
// before it knows what the server thinks of its certificate.
func quicDial(t *testing.T, addr net.Addr, cfg *tls.Config) (resumed bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, addr.String(), cfg, &quic.Config{})
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	s, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return false, err
	}
	if _, err := io.ReadAll(s); err != nil {
		return false, err
	}
	return conn.ConnectionState().TLS.DidResume, nil
}

func TestQUICHandshake(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	server := a.Source(a.ID("/gw"), b.Bundle())
	client := b.Source(b.ID("/gw"), a.Bundle())
	addr := quicServer(t, server.ServerTLS([]string{alpn, "isthmus-h3/1"}, identity.AuthorizeIDs(client.ID())))

	for _, proto := range []string{alpn, "isthmus-h3/1"} {
		if _, err := quicDial(t, addr, client.ClientTLS([]string{proto}, identity.AuthorizeIDs(server.ID()))); err != nil {
			t.Errorf("%s: %v", proto, err)
		}
	}
	const badCertificate, noApplicationProtocol = 0x100 + 42, 0x100 + 120
	tests := []struct {
		name  string
		cfg   *tls.Config
		ours  identity.Reason         // refused by the client itself
		alert quic.TransportErrorCode // or by the server
	}{
		{"client does not know the server", client.ClientTLS([]string{alpn}, identity.AuthorizeIDs(b.ID("/x"))), identity.ReasonUnauthorized, 0},
		{"client lacks the server's bundle", b.Source(b.ID("/gw")).ClientTLS([]string{alpn}, identity.AuthorizeAny()), identity.ReasonUnknownTrustDomain, 0},
		{"server does not know the client", b.Source(b.ID("/other"), a.Bundle()).ClientTLS([]string{alpn}, identity.AuthorizeAny()), "", badCertificate},
		{"another protocol", client.ClientTLS([]string{"h3"}, identity.AuthorizeAny()), "", noApplicationProtocol},
		{"no certificate", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13}, "", badCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := quicDial(t, addr, tt.cfg)
			if err == nil {
				t.Fatal("was served")
			}
			if got := reason(err); got != tt.ours {
				t.Errorf("reason %q, want %q (%v)", got, tt.ours, err)
			}
			te, ok := errors.AsType[*quic.TransportError](err)
			if !ok {
				t.Fatalf("got %T %v", err, err)
			}
			if tt.alert != 0 && (!te.Remote || te.ErrorCode != tt.alert) {
				t.Errorf("got %#x remote %v, want %#x", te.ErrorCode, te.Remote, tt.alert)
			}
			if te.Remote && te.ErrorMessage != "" {
				t.Errorf("the server explains itself to a stranger: %q", te.ErrorMessage)
			}
		})
	}
}

// A listener's configuration follows rotation and federation without a restart.
func TestQUICListenerUsesWhatIsCurrent(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	server := a.Source(a.ID("/gw"))
	client := b.Source(b.ID("/gw"), a.Bundle())
	addr := quicServer(t, server.ServerTLS([]string{alpn}, identity.AuthorizeAny()))
	dial := func() error {
		_, err := quicDial(t, addr, client.ClientTLS([]string{alpn}, identity.AuthorizeAny()))
		return err
	}
	if dial() == nil {
		t.Fatal("trusted before its bundle was set")
	}
	if err := server.SetPeerBundle(b.TrustDomain(), b.BundleJSON(1)); err != nil {
		t.Fatal(err)
	}
	if err := dial(); err != nil {
		t.Fatalf("refused with its bundle set: %v", err)
	}
	server.RemovePeerBundle(b.TrustDomain())
	if dial() == nil {
		t.Fatal("trusted after its bundle was removed")
	}
}

// quicResumable dials until the client's cache holds a ticket, which arrives after
// the handshake.
func quicResumable(t *testing.T, addr net.Addr, cfg *tls.Config) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resumed, err := quicDial(t, addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if resumed {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no session was resumed: this test proves nothing any more")
		}
	}
}
