package agent_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An answer that points elsewhere must not take the token there.
func TestTheTokenGoesToTheAgentAlone(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked for elsewhere, with the token %q", r.URL.Path, r.Header.Get("X-Consul-Token"))
	}))
	defer elsewhere.Close()
	there := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/v1/status/leader", http.StatusTemporaryRedirect))
	defer there.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, httpClient, err := agent.New(agent.Options{
		Config: agent.Config{Address: strings.TrimPrefix(there.URL, "http://"), TokenFile: file}, Conns: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer httpClient.CloseIdleConnections()
	if leader, err := client.Status().Leader(); err == nil {
		t.Errorf("the leader is %q", leader)
	}
}
