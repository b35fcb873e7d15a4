package spire_test

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// fromFiles gives a gateway its identity from files, as on a host whose Workload
// API it cannot reach.
func (w *world) fromFiles(g *stand.Gateway) {
	identity := g.Config["identity"].(stand.Object)
	delete(identity, "workload_api")
	identity["files"] = stand.Object{"directory": filepath.Join(w.Dir, "files")}
}

// keepFiles does for the gateway of the cluster on the embedded CA what
// spiffe-helper does: it follows the Workload API and writes three files, each in
// place, at every change.
func (w *world) keepFiles(t *testing.T) (stop func()) {
	t.Helper()
	dir := filepath.Join(w.Dir, "files")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := workloadapi.WatchX509Context(ctx, kept{t, dir, w.onprem.ID() + "/gateway/" + w.onprem.Gateways[0].Name},
			workloadapi.WithAddr("unix://"+w.onprem.Domain.Socket))
		if err != nil && ctx.Err() == nil {
			t.Errorf("follow the workload api: %v", err)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// kept is a folder that holds one of the offered SVIDs.
type kept struct {
	t       *testing.T
	dir, id string
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (k kept) OnX509ContextUpdate(c *workloadapi.X509Context) {
	for _, svid := range c.SVIDs {
		if svid.ID.String() != k.id {
			continue
		}
		certs, key, err := svid.Marshal()
		own, bundleErr := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err = errors.Join(err, bundleErr); err != nil {
			k.t.Error(err)
			return
		}
		var roots []byte
		for _, root := range own.X509Authorities() {
			roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
		}
		err = errors.Join(
			os.WriteFile(filepath.Join(k.dir, "svid.pem"), certs, 0o644),
			os.WriteFile(filepath.Join(k.dir, "svid_key.pem"), key, 0o600),
			os.WriteFile(filepath.Join(k.dir, "svid_bundle.pem"), roots, 0o644))
		if err != nil {
			k.t.Error(err)
		}
	}
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher: the CA may not
// be there yet.
func (kept) OnX509ContextWatchError(error) {}
