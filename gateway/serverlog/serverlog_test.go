package serverlog_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
)

func TestALineBecomesABoundedReason(t *testing.T) {
	var b strings.Builder
	l := serverlog.New(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})), "http server")
	l.Print("http: TLS handshake error " + strings.Repeat("x", 1000))
	got := b.String()
	if !strings.Contains(got, `msg="http server"`) || !strings.Contains(got, `reason="http: TLS handshake error xxx`) || len(got) > 400 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
