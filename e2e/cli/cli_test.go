package cli_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// TestSessions: the scripts run one after the other against one federation, each
// with rules of its own names.
func TestSessions(t *testing.T) {
	s := stand.New(t, stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"})
	east := s.Clusters[0]
	east.WriteCatalog(t, stand.Service{Name: "billing.default", Port: "main", Protocol: "http", Addresses: []string{"127.0.0.1:9"}})
	east.Section()["exports"] = []any{stand.Object{"name": "from-file", "services": []any{"web.default"}, "to": []any{"*"}}}
	// For the sessions over the mTLS listener: the tests' own user may have this ID.
	const ops = "spiffe://east.test/ops"
	s.Domains["east.test"].Extra = []string{ops}
	mtls := stand.FreePort(t)
	east.Section()["api"] = stand.Object{
		"address": east.API.String(),
		"mtls":    stand.Object{"address": mtls.String()},
		"auth":    stand.Object{"roles": []any{stand.Object{"role": "viewer", "ids": []any{"spiffe://east.test/*"}}}},
	}
	s.Start()
	stand.Eventually(t, time.Minute, "the gateway is ready", func() error {
		_, err := stand.Get("http://" + east.Gateways[0].Admin.String() + "/readyz")
		return err
	})
	token := filepath.Join(s.Dir, east.Name, "data", "federation", "api.token")
	stand.Eventually(t, time.Minute, "the gateway has reported", func() error {
		ask := exec.CommandContext(t.Context(), stand.Binary(t), "status", "--json", "--api", "http://"+east.API.String(), "--token-file", token)
		out, err := ask.CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte(`"alive"`)) {
			err = fmt.Errorf("status: %s", out)
		}
		return err
	})
	var turn sync.Mutex // testscript would run them side by side
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			turn.Lock()
			env.Defer(turn.Unlock)
			env.Setenv("PATH", filepath.Dir(stand.Binary(t))+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("ISTHMUS_API", "http://"+east.API.String())
			env.Setenv("ISTHMUS_TOKEN_FILE", token)
			env.Setenv("LOCAL_API", "http://"+east.API.String())
			env.Setenv("LOCAL_TOKEN", token)
			env.Setenv("MTLS_API", "https://"+mtls.String())
			env.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix://"+s.Domains["east.test"].Socket)
			env.Setenv("FEDERATION_ID", east.ID())
			return nil
		},
	})
}
