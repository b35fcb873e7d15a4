package kubeapi_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An answer that points elsewhere must not take the token there: API servers pass on
// what aggregated ones say.
func TestTheTokenGoesToTheServerAlone(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked for elsewhere, with %q", r.URL.Path, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	var asked string
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	}))
	defer there.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := kubeapi.Connection{Server: there.URL, TokenFile: file}.REST("test")
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubeapi.Client(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(there.URL + "/api/v1/services")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusFound || asked != "Bearer secret" {
		t.Errorf("status %d, asked with %q, %v", resp.StatusCode, asked, err)
	}
}
