package guides_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
)

// within is for what must come, on a machine that is busy with other things.
const within = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is where an operator of a cluster types.
func host(t *testing.T, s *stand.Stand, c *stand.Cluster) *guide.Host {
	t.Helper()
	dir := filepath.Join(s.Dir, c.Name, "operator")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &guide.Host{
		Dir: dir, Logs: filepath.Join(s.Dir, "logs"),
		Env: []string{
			"ISTHMUS_API=http://" + c.API.String(),
			"ISTHMUS_TOKEN_FILE=" + apiToken(c),
		},
		Replace: []string{"/etc/isthmus", dir},
	}
}

// apiToken is the file with the token of a federation's API.
func apiToken(c *stand.Cluster) string {
	return filepath.Join(c.Config["data_dir"].(string), "federation", "api.token")
}

// unruled takes the rules away that a stand has from the start: the page makes its own.
func unruled(c *stand.Cluster, kinds ...string) {
	for _, kind := range kinds {
		delete(c.Section(), kind)
	}
}

// instance is an HTTP server that says its name; end kills it.
func instance(t *testing.T, at, name string) (address string, end func()) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	end = func() {
		_ = srv.Close()
		<-done
	}
	t.Cleanup(end)
	return ln.Addr().String(), end
}

// prints runs a block until it prints what is wanted, and returns all of it.
func prints(t *testing.T, g *guide.Guide, name string, h *guide.Host, want string, replace ...string) string {
	t.Helper()
	var out string
	stand.Eventually(t, within, fmt.Sprintf("block %q prints %q", name, want), func() (err error) {
		out, err = g.Try(name, h, replace...)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("printed %s", out)
		}
		return err
	})
	return out
}
