package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const (
	patience = 60 * time.Second // for what must come; no measure
	// asWorkload has this program fetch from the Workload API that it names, as the
	// user that it runs as.
	asWorkload = "ISTHMUS_E2E_WORKLOAD_API"
	// stranger is a user that no entry names.
	stranger = 54321
)

func TestMain(m *testing.M) {
	if address := os.Getenv(asWorkload); address != "" {
		workload(address)
		return
	}
	m.Run()
}

// fetched is what a workload got.
type fetched struct {
	IDs      []string
	Chains   [][]byte // DER, by ID
	Bundle   []byte
	NotAfter time.Time
	Err      string
}

func workload(address string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out fetched
	cl, err := workloadapi.New(ctx, workloadapi.WithAddr(address))
	if err == nil {
		defer func() { _ = cl.Close() }()
		var x *workloadapi.X509Context
		if x, err = cl.FetchX509Context(ctx); err == nil {
			for _, svid := range x.SVIDs {
				out.IDs, out.Chains = append(out.IDs, svid.ID.String()), append(out.Chains, svid.Certificates[0].Raw)
				out.NotAfter = svid.Certificates[0].NotAfter
			}
			b, berr := x.Bundles.GetX509BundleForTrustDomain(x.SVIDs[0].ID.TrustDomain())
			if err = berr; err == nil {
				for _, c := range b.X509Authorities() {
					out.Bundle = append(out.Bundle, c.Raw...)
				}
			}
		}
	}
	if err != nil {
		out.Err = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(out) // the other end says what is missing
}

// fetch runs a workload as a user; 0 is the test's own.
func fetch(t *testing.T, program, socket string, uid uint32) fetched {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), asWorkload+"=unix://"+socket)
	cmd.Dir = filepath.Dir(program)
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if err != nil {
		t.Fatalf("workload: %v: %s", err, &stderr)
	}
	var out fetched
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("workload: %v: %s", err, data)
	}
	return out
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// verified checks a workload's first SVID against a bundle.
func verified(t *testing.T, f fetched, bundle []byte) {
	t.Helper()
	roots, err := x509.ParseCertificates(bundle)
	if err != nil {
		t.Fatal(err)
	}
	td := spiffeid.RequireTrustDomainFromString("aws.example.org")
	leaf, err := x509.ParseCertificate(f.Chains[0])
	if err != nil {
		t.Fatal(err)
	}
	b := spiffebundle.FromX509Authorities(td, roots)
	if _, _, err := x509svid.Verify([]*x509.Certificate{leaf}, b); err != nil {
		t.Error(err)
	}
}

// The guide, from the first file to the revocation, with kills of agent and CA on
// the way.
func TestGuideOnSeveralHosts(t *testing.T) {
	dir, err := os.MkdirTemp("", "hosts") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // other users get at the sockets
		t.Fatal(err)
	}
	g, program := guide.Read(t, "ca-hosts.md", stand.Binary(t)), copied(t, dir)
	uid := uint32(os.Geteuid())
	if uid == 0 {
		uid = 990
	}
	port, endpoint := freePort(t), freePort(t)
	asUID := uid
	if os.Geteuid() != 0 {
		asUID = 0 // the test's own
	}
	logs := t.ArtifactDir()
	machine := func(name string) (*guide.Host, string) {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		return &guide.Host{Dir: at, Logs: logs, Replace: []string{
			"/etc/isthmus", filepath.Join(at, "etc"), "/run/isthmus", filepath.Join(at, "run"), "/var/lib/isthmus", filepath.Join(at, "var/lib"),
		}}, at
	}
	onA, atA := machine("a")
	onB, atB := machine("b")

	g.File("ca config", "/etc/isthmus/ca.yaml", onA, "10.0.0.5:7484", port, "10.0.0.5:8443", endpoint, "uid: 990", fmt.Sprintf("uid: %d", uid))
	caProcess := g.Process("ca serve", onA)
	caProcess.Start()
	socketA, socketB := filepath.Join(atA, "run", "ca.sock"), filepath.Join(atB, "run", "ca.sock")
	eventually(t, "the ca serves", func() bool {
		_, err := os.Stat(filepath.Join(atA, "var/lib", "ca", "operator.sock"))
		return err == nil
	})
	first := fetch(t, program, socketA, asUID)
	if len(first.IDs) != 2 || first.IDs[0] != "spiffe://aws.example.org/isthmus/cluster/aws-us-east-1" {
		t.Fatalf("on the ca's host: %+v", first)
	}
	token := g.Run("ca token", onA)

	g.File("agent config", "/etc/isthmus/ca-agent.yaml", onB)
	tokenFile := filepath.Join(atB, "etc", "ca.token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	agent := g.Process("agent", onB)
	agent.Start()
	var second fetched
	eventually(t, "the other host serves", func() bool {
		if _, err := os.Stat(socketB); err != nil {
			return false
		}
		second = fetch(t, program, socketB, asUID)
		return second.Err == "" && len(second.IDs) == 1
	})
	t.Logf("figure: an SVID on the other host %s after its agent started", time.Since(began).Round(time.Millisecond))
	if second.IDs[0] != "spiffe://aws.example.org/isthmus/cluster/aws-us-east-1/gateway/gw2" {
		t.Fatalf("on the other host: %+v", second)
	}
	verified(t, second, first.Bundle)
	verified(t, first, second.Bundle)
	if os.Geteuid() == 0 {
		for _, socket := range []string{socketA, socketB} {
			if f := fetch(t, program, socket, stranger); !strings.Contains(f.Err, "PermissionDenied") {
				t.Errorf("another user gets %+v at %s", f, socket)
			}
		}
	}
	followsEndpoint(t, endpoint, second.Bundle)

	// Both die without a word. The agent comes back alone, without its token.
	caProcess.Kill()
	agent.Kill()
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	agent.Start()
	eventually(t, "the last good svid is served without the ca", func() bool {
		f := fetch(t, program, socketB, asUID)
		return f.Err == "" && bytes.Equal(f.Chains[0], second.Chains[0])
	})
	caProcess.Start()
	eventually(t, "the ca is back", func() bool {
		_, err := g.Try("hosts", onA)
		return err == nil
	})
	if out := g.Run("hosts", onA); !strings.Contains(out, "web1") || !strings.Contains(out, "gateway/gw2") {
		t.Errorf("hosts: %s", out)
	}
	g.Run("revoke", onA)
	eventually(t, "the revoked agent ends", func() bool {
		_, err := os.Stat(filepath.Join(atB, "var/lib", "ca-agent", "agent.state"))
		return os.IsNotExist(err)
	})
	// The token that it came with is no use any more.
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Try("agent", onB); err == nil || !strings.Contains(err.Error(), "refused, token") {
		t.Errorf("the old token: %v", err)
	}
}

// followsEndpoint reads the CA's bundle endpoint with go-spiffe.
func followsEndpoint(t *testing.T, address string, bundle []byte) {
	t.Helper()
	roots, err := x509.ParseCertificates(bundle)
	if err != nil {
		t.Fatal(err)
	}
	td := spiffeid.RequireTrustDomainFromString("aws.example.org")
	held := spiffebundle.FromX509Authorities(td, roots).X509Bundle()
	b, err := federation.FetchBundle(t.Context(), td, "https://"+address+"/", federation.WithSPIFFEAuth(held, spiffeid.RequireFromPath(td, "/isthmus/ca")))
	if err != nil || len(b.X509Authorities()) != len(roots) {
		t.Errorf("the ca's bundle endpoint: %v, %v", b, err)
	}
}

// copied puts this program where other users can run it.
func copied(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "workload")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
