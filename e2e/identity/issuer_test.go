package identity_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/spire"
	"github.com/isthmus-mesh/isthmus/identity"
)

const (
	domain  = "home.test"
	foreign = "abroad.test"
	gw      = "spiffe://home.test/gw"
	web     = "spiffe://home.test/web"
	// life of an SVID: as short as leaves a busy machine time to renew it.
	life = 8 * time.Second
)

// issuer is one way by which a process gets its identity: gw, and a bundle of the
// foreign domain.
type issuer interface {
	// options are those of a source, but for ID and what is the test's.
	options() identity.Options
	// federate replaces the foreign bundle.
	federate(document []byte)
	// stop and start end and bring back whatever renews.
	stop()
	start()
	// several says that web is offered, too, and first.
	several() bool
	// held is the SVID that the process holds now, with its key.
	held() *x509svid.SVID
}

// authority is the embedded CA.
type authority struct {
	t      *testing.T
	dir    string
	socket string
	bundle string
	*stand.Process
}

func newAuthority(t *testing.T, several bool) *authority {
	t.Helper()
	dir := shortDir(t)
	a := &authority{t: t, dir: dir, socket: filepath.Join(dir, "ca.sock"), bundle: filepath.Join(dir, "abroad.json")}
	entries := []any{stand.Object{"id": gw, "uid": os.Getuid()}}
	if several {
		entries = append([]any{stand.Object{"id": web, "uid": os.Getuid()}}, entries...)
	}
	config := stand.Object{
		"trust_domain": domain, "dir": filepath.Join(dir, "ca"), "socket": a.socket, "svid_ttl": life.String(), "entries": entries,
		"federated": []any{stand.Object{"trust_domain": foreign, "bundle_file": a.bundle}},
	}
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ca.yaml"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Process = stand.NewProcess(t, dir, "ca", stand.Binary(t), "ca", "serve", "--config", filepath.Join(dir, "ca.yaml"))
	return a
}

func (a *authority) options() identity.Options {
	return identity.Options{WorkloadAPI: "unix://" + a.socket}
}
func (a *authority) federate(document []byte) { replace(a.t, a.bundle, document) }
func (a *authority) stop()                    { a.Kill() }
func (a *authority) start()                   { a.Start() }
func (a *authority) several() bool            { return true }
func (a *authority) held() *x509svid.SVID     { return fetch(a.t, a.socket) }

// spireAgent is SPIRE.
type spireAgent struct {
	t *testing.T
	*spire.Domain
}

func newSpire(t *testing.T, entries ...string) *spireAgent {
	t.Helper()
	r := &spireAgent{t, spire.New(t, spire.Options{TrustDomain: domain, SVIDTTL: life, Dir: shortDir(t)})}
	spire.Start(r.Domain)
	var list []spire.Entry
	for _, id := range entries {
		list = append(list, spire.Entry{ID: id, UID: os.Getuid()})
	}
	r.Register(list...)
	return r
}

func (r *spireAgent) options() identity.Options {
	return identity.Options{WorkloadAPI: "unix://" + r.Socket}
}
func (r *spireAgent) federate(document []byte) { r.SetBundle(foreign, document) }
func (r *spireAgent) stop()                    { r.Agent.Kill() }
func (r *spireAgent) several() bool            { return true }
func (r *spireAgent) held() *x509svid.SVID     { return fetch(r.t, r.Socket) }

func (r *spireAgent) start() {
	if !r.Agent.Running() {
		r.Agent.Start()
	}
	r.AwaitAgent()
}

// kept is a folder of files that a writer keeps from a Workload API.
type kept struct {
	t        *testing.T
	upstream issuer // its Workload API is what the writer follows
	files    identity.Files
	// write keeps the files until ctx ends.
	write func(ctx context.Context, k *kept)
	// vanish says that the files go with the writer.
	vanish bool

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newKept(t *testing.T, upstream issuer, write func(context.Context, *kept)) *kept {
	t.Helper()
	dir := shortDir(t)
	k := &kept{t: t, upstream: upstream, write: write, files: identity.Files{
		Directory: filepath.Join(dir, "id"),
		Federated: []identity.FederatedFile{{TrustDomain: spiffeid.RequireTrustDomainFromString(foreign), BundleFile: filepath.Join(dir, "abroad.json")}},
	}}
	t.Cleanup(k.halt)
	return k
}

func (k *kept) options() identity.Options { return identity.Options{Files: &k.files} }
func (k *kept) federate(document []byte)  { replace(k.t, k.files.Federated[0].BundleFile, document) }
func (k *kept) several() bool             { return false }

func (k *kept) start() {
	k.upstream.start()
	ctx, cancel := context.WithCancel(k.t.Context())
	k.cancel = cancel
	k.wg.Go(func() { k.write(ctx, k) })
}

func (k *kept) stop() {
	k.halt()
	if k.vanish {
		if err := os.RemoveAll(k.files.Directory); err != nil {
			k.t.Error(err)
		}
	}
	k.upstream.stop()
}

func (k *kept) halt() {
	if k.cancel != nil {
		k.cancel()
	}
	k.wg.Wait()
}

func (k *kept) held() *x509svid.SVID {
	k.t.Helper()
	certificate, key := k.files.Certificate, k.files.Key
	if certificate == "" {
		certificate, key = filepath.Join(k.files.Directory, "svid.pem"), filepath.Join(k.files.Directory, "svid_key.pem")
		if _, err := os.Stat(certificate); err != nil {
			certificate, key = filepath.Join(k.files.Directory, "tls.crt"), filepath.Join(k.files.Directory, "tls.key")
		}
	}
	var svid *x509svid.SVID
	stand.Eventually(k.t, patience, "the files fit each other", func() (err error) {
		svid, err = x509svid.Load(certificate, key)
		return err
	})
	return svid
}

// followed calls each time that the Workload API has something new.
type followed func(*workloadapi.X509Context)

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (f followed) OnX509ContextUpdate(c *workloadapi.X509Context) { f(c) }

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher.
func (f followed) OnX509ContextWatchError(error) {}

func follow(ctx context.Context, k *kept, update followed) {
	err := workloadapi.WatchX509Context(ctx, update, workloadapi.WithAddr(k.upstream.options().WorkloadAPI))
	if err != nil && ctx.Err() == nil {
		k.t.Errorf("follow the workload api: %v", err)
	}
}

// inPlace does what spiffe-helper does: each file is truncated and written, one
// after the other.
func inPlace(ctx context.Context, k *kept) {
	follow(ctx, k, func(c *workloadapi.X509Context) {
		certs, key, bundle := encoded(k.t, c)
		err := errors.Join(
			os.MkdirAll(k.files.Directory, 0o700),
			os.WriteFile(filepath.Join(k.files.Directory, "svid.pem"), certs, 0o644),
			os.WriteFile(filepath.Join(k.files.Directory, "svid_key.pem"), key, 0o600),
			os.WriteFile(filepath.Join(k.files.Directory, "svid_bundle.pem"), bundle, 0o644))
		if err != nil {
			k.t.Error(err)
		}
	})
}

// swapped does what the kubelet does with a secret of cert-manager: the files are
// links through ..data, which is replaced in one step.
func swapped(ctx context.Context, k *kept) {
	version := 0
	follow(ctx, k, func(c *workloadapi.X509Context) {
		certs, key, bundle := encoded(k.t, c)
		version++
		at := func(name string) string { return filepath.Join(k.files.Directory, name) }
		name := fmt.Sprintf("..%d_%d", time.Now().UnixNano(), version)
		old, _ := os.Readlink(at("..data"))
		err := errors.Join(
			os.MkdirAll(at(name), 0o755),
			os.WriteFile(filepath.Join(at(name), "tls.crt"), certs, 0o644),
			os.WriteFile(filepath.Join(at(name), "tls.key"), key, 0o440),
			os.WriteFile(filepath.Join(at(name), "ca.crt"), bundle, 0o644),
			os.Symlink(name, at("..data_tmp")), os.Rename(at("..data_tmp"), at("..data")))
		for _, file := range []string{"tls.crt", "tls.key", "ca.crt"} {
			if lerr := os.Symlink(filepath.Join("..data", file), at(file)); lerr != nil && !errors.Is(lerr, os.ErrExist) {
				err = errors.Join(err, lerr)
			}
		}
		if old != "" {
			err = errors.Join(err, os.RemoveAll(at(old)))
		}
		if err != nil {
			k.t.Error(err)
		}
	})
}

// fetched runs SPIRE's own command once a second, as a timer would.
func fetched(ctx context.Context, k *kept) {
	r, dir := k.upstream.(*spireAgent), filepath.Dir(k.files.Certificate)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		k.t.Error(err)
	}
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, r.Agent.Path, "api", "fetch", "x509", "-silent", "-socketPath", r.Socket, "-write", dir)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		_ = cmd.Run() // the agent may be gone: that is what the test does
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func encoded(t *testing.T, c *workloadapi.X509Context) (certs, key, bundle []byte) {
	svid := c.DefaultSVID()
	certs, key, err := svid.Marshal()
	if err != nil {
		t.Error(err)
	}
	own, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		t.Error(err)
		return certs, key, nil
	}
	for _, a := range own.X509Authorities() {
		bundle = append(bundle, pemOf(a)...)
	}
	return certs, key, bundle
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// fetch takes the SVID of gw from a Workload API.
func fetch(t *testing.T, socket string) *x509svid.SVID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	svids, err := workloadapi.FetchX509SVIDs(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range svids {
		if s.ID.String() == gw {
			return s
		}
	}
	t.Fatalf("%s is not among %d svids", gw, len(svids))
	return nil
}

func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", data, 0o644), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// shortDir is a folder whose path leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-id-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
