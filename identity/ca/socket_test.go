package ca_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSocketIsTakenOverFromTheDeadOnly(t *testing.T) {
	runFails := func(t *testing.T, cfg ca.Config, want string) {
		t.Helper()
		c, err := ca.New(cfg, ca.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
	}
	prepared := func(t *testing.T) ca.Config {
		t.Helper()
		cfg := config(t, domainA, "/gw")
		if err := os.MkdirAll(filepath.Dir(cfg.Socket), 0o755); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	t.Run("stale", func(t *testing.T) {
		cfg := prepared(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false) // as after kill -9
		_ = l.Close()
		c, _ := start(t, cfg, ca.Options{})
		if _, err := client(t, c).FetchX509SVID(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("live", func(t *testing.T) {
		cfg := prepared(t)
		l, err := net.Listen("unix", cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		runFails(t, cfg, "another process serves it")
	})
	t.Run("a file", func(t *testing.T) {
		cfg := prepared(t)
		if err := os.WriteFile(cfg.Socket, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		runFails(t, cfg, "is no socket")
		if got, err := os.ReadFile(cfg.Socket); err != nil || string(got) != "precious" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("directory open to all", func(t *testing.T) {
		cfg := prepared(t)
		if err := os.Chmod(filepath.Dir(cfg.Socket), 0o777); err != nil {
			t.Fatal(err)
		}
		runFails(t, cfg, "others must not write there")
	})
	t.Run("sticky directory open to all", func(t *testing.T) {
		cfg := prepared(t)
		if err := os.Chmod(filepath.Dir(cfg.Socket), 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		start(t, cfg, ca.Options{})
	})
}

// One user can open so many connections and no more; others' room is untouched, and
// closed connections free theirs.
func TestConnectionsOfAUserAreBounded(t *testing.T) {
	const limit = 512
	cfg := config(t, domainA, "/gw")
	reg := prometheus.NewRegistry()
	start(t, cfg, ca.Options{Registerer: reg})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
	for range limit {
		open = append(open, dial())
	}
	over := dial()
	open = append(open, over)
	if _, err := io.ReadAll(over); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the connection above the limit was not closed: %v", err)
	}
	if got := testutil.ToFloat64(collector(t, reg, "isthmus_ca_refused_total", "reason", "connections")); got != 1 {
		t.Errorf("counted %v", got)
	}
	for _, c := range open {
		_ = c.Close()
	}
	open = nil
	eventually(t, "room again", func() bool {
		c := dial()
		defer func() { _ = c.Close() }()
		// A server that keeps the connection greets with its settings.
		_, err := c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err == nil
	})
}
