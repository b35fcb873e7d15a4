package federation_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// A federation that starts while the Workload API is down serves what it has and
// says what it lacks.
func TestServesWithoutAnSVIDAndSaysSo(t *testing.T) {
	t.Parallel()
	ca := identitytest.NewCA("east.test")
	id := ca.ID("/isthmus/cluster/east")
	agent := identitytest.NewWorkloadAPI(t, identitytest.Answer{
		SVIDs: []*x509svid.SVID{ca.SVID(id)}, Bundles: []*x509bundle.Bundle{ca.Bundle()},
	})
	agent.Kill()
	source, err := identity.New(identity.Options{WorkloadAPI: agent.Address(), ID: id})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := federation.New(federation.Options{
		Cluster: "east", Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}, Identity: source,
		Config: federation.Config{
			Listen: "127.0.0.1:0", DataDir: filepath.Join(dir, "data"),
			API: federation.API{Socket: filepath.Join(dir, "api.sock")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- source.Run(ctx) }()
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	<-f.Ready()
	api, err := client.New(client.Options{Socket: filepath.Join(dir, "api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	if err := api.Ready(ctx); err == nil || !strings.Contains(err.Error(), "no svid") {
		t.Errorf("ready = %v, want the missing svid", err)
	}
	if v, err := api.Version(ctx); err != nil || v.ID != id.String() {
		t.Errorf("version = %+v, %v", v, err)
	}
	agent.Start()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := api.Ready(ctx)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
