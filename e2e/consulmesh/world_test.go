package consulmesh_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

const (
	within     = 90 * time.Second
	management = "aaaaaaaa-0000-4000-8000-000000000001"
)

// services run in the west. Behind the name stray is a sidecar of the east's mesh.
var services = []string{"billing", "ledger", "stray"}

// mesh is one Consul datacenter with ACLs, where nothing is allowed by default, and
// the programs of its hosts.
type mesh struct {
	*consultest.Agent
	t       *testing.T
	name    string
	cluster *stand.Cluster
	binary  string
	dir     string
	logs    string
	// domain is the mesh's trust domain.
	domain string
}

// world is two clusters, each with a mesh of its own. In the west run billing (HTTP)
// and ledger (bytes), each reached by its sidecar only; web calls from the east.
type world struct {
	*stand.Stand
	t          *testing.T
	east, west *mesh
	// doors are the east gateway's ways in for sidecars, by service.
	doors map[string]netip.AddrPort
	// upstreams are where web's sidecar listens for web, by service.
	upstreams map[string]netip.AddrPort
	web       *stand.Process
	sidecars  map[string]*stand.Process
	// behind is where billing's sidecar listens.
	behind netip.AddrPort
	guide  *guide.Guide
	// key is that of the east's root, once the test has set it.
	key   *ecdsa.PrivateKey
	roots map[*mesh]*x509.Certificate
}

func newWorld(t *testing.T) *world {
	t.Helper()
	binary := tools.Require(t, "consul")
	tools.Command(t, "curl") // the guide's
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	w := &world{
		Stand: s, t: t, doors: map[string]netip.AddrPort{}, roots: map[*mesh]*x509.Certificate{}, upstreams: map[string]netip.AddrPort{}, sidecars: map[string]*stand.Process{},
	}
	w.east, w.west = w.newMesh(binary, s.Clusters[0]), w.newMesh(binary, s.Clusters[1])
	w.guide = guide.Read(t, "consul-mesh.md", binary)
	w.configure()
	return w
}

// configure writes the gateways' and the west's configuration as the guide says, and
// for the services that it does not have.
func (w *world) configure() {
	g := w.guide
	for _, service := range services {
		w.doors[service], w.upstreams[service] = stand.FreePort(w.t), stand.FreePort(w.t)
	}
	const billing = `service "billing" { policy = "write" }`
	g.Run("east token", w.east.operator(), billing, billing+strings.NewReplacer("billing", "ledger").Replace("\n"+billing)+
		strings.NewReplacer("billing", "stray").Replace("\n"+billing))
	g.Run("west token", w.west.operator())

	near := g.Section("east gateway", "gateway", w.east.operator(), "10.1.0.5:15001", w.doors["billing"].String())
	ways := near["listen"].(map[string]any)["mtls"].([]any)
	for _, service := range services[1:] {
		ways = append(ways, stand.Object{"address": w.doors[service].String(), "service": service, "identity": "consul"})
	}
	east := w.east.gateway().Section()
	east["consul"] = near["consul"]
	east["listen"].(stand.Object)["mtls"] = ways
	w.west.gateway().Section()["consul"] = g.Section("west gateway", "gateway", w.west.operator())["consul"]

	for _, m := range []*mesh{w.east, w.west} {
		source := stand.Object{"address": m.Address(), "token_file": m.file("source", `
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }`)}
		m.cluster.Section()["sources"] = []any{stand.Object{
			"consul": source, "allow": []any{"127.0.0.0/8"}, "guard": stand.Object{"window": "2s"},
		}}
	}
	w.east.cluster.Section()["sync_out"] = stand.Object{"consul": stand.Object{
		"address": w.east.Address(), "loopback": true, "token_file": w.east.file("sync-out", `
key "isthmus/sync-out/east" { policy = "write" }
session_prefix "" { policy = "write" }
node_prefix "" { policy = "read" }
node "isthmus-east" { policy = "write" }
service_prefix "" { policy = "write" }`),
	}}
	domain := strings.TrimSpace(g.Run("east domain", w.east.operator()))
	if domain != w.east.domain {
		w.t.Fatalf("the guide finds the domain %q, it is %q", domain, w.east.domain)
	}
	policy := g.Section("west policy", "federation", w.west.operator(), "DOMAIN", domain)
	west := w.west.cluster.Section()
	peer := west["peers"].([]any)[0].(stand.Object)
	peer["asserts"] = append(peer["asserts"].([]any), policy["peers"].([]any)[0].(map[string]any)["asserts"].([]any)...)
	west["intentions"] = append(policy["intentions"].([]any), stand.Object{
		"name": "others", "services": []any{"ledger.default", "stray.default"}, "callers": []any{w.east.id("web")}, "action": "allow",
	})
}

func (w *world) newMesh(binary string, c *stand.Cluster) *mesh {
	w.t.Helper()
	m := &mesh{
		t: w.t, name: c.Name, cluster: c, binary: binary, dir: w.t.TempDir(), logs: filepath.Join(w.Dir, "logs"),
		Agent: consultest.Start(w.t, consultest.Options{
			Binary: binary, Datacenter: c.Name, ManagementToken: management,
		}),
	}
	stand.Eventually(w.t, within, "the ca of "+c.Name, func() error {
		roots, _, err := m.Client().Agent().ConnectCARoots(nil)
		if err == nil {
			m.domain = roots.TrustDomain
		}
		return err
	})
	return m
}

// operator is who may do everything, on a host of the mesh.
func (m *mesh) operator() *guide.Host { return m.host(management) }

// host is one of the mesh whose token is this one.
func (m *mesh) host(token string) *guide.Host {
	return &guide.Host{
		Dir: m.dir, Logs: m.logs, Env: []string{"CONSUL_HTTP_ADDR=" + m.Address(), "CONSUL_HTTP_TOKEN=" + token},
		Replace: []string{"/etc/isthmus", m.dir, "127.0.0.1:8500", m.Address()},
	}
}

// id is the SPIFFE ID of a service of the mesh.
func (m *mesh) id(service string) string {
	return "spiffe://" + m.domain + "/ns/default/dc/" + m.name + "/svc/" + service
}

// file is a token's file.
func (m *mesh) file(name, rules string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name+".token")
	if err := os.WriteFile(path, []byte(m.Token(m.name+"-"+name, rules)), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// rules are what a sidecar's token may.
func rules(service string) string {
	return fmt.Sprintf(`
service %q { policy = "write" }
service "%s-sidecar-proxy" { policy = "write" }
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }`, service, service)
}

// proxy describes a real `consul connect proxy`, with a token for its service.
func (w *world) proxy(m *mesh, name, service string, args ...string) *stand.Process {
	m.t.Helper()
	args = append([]string{"connect", "proxy", "-http-addr", m.Address(), "-token-file", m.file("proxy-"+name, rules(service))}, args...)
	return stand.NewProcess(m.t, filepath.Join(w.Dir, "logs"), name, m.binary, args...)
}

// start runs everything but Isthmus, then Isthmus.
func (w *world) start() {
	w.t.Helper()
	g := w.guide
	app, port := httpApp(w.t), stand.FreePort(w.t)
	w.behind = port
	w.sidecars["billing"] = g.Process("west sidecar", w.west.host(w.west.Token(w.west.name+"-"+"billing", rules("billing"))), "8080", fmt.Sprint(app.Port()), "21000", fmt.Sprint(port.Port()))
	g.Run("east register", w.east.operator(), "10.1.0.5", "127.0.0.1", "15001", fmt.Sprint(w.doors["billing"].Port()))
	upstreams := "billing:" + w.upstreams["billing"].String()
	for _, service := range services[1:] {
		app, port := echoApp(w.t), stand.FreePort(w.t)
		w.west.Register(&api.AgentServiceRegistration{
			ID: service + "-1", Name: service, Address: "127.0.0.1", Port: int(app.Port()),
			Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{
				Address: "127.0.0.1", Port: int(port.Port()), Checks: api.AgentServiceChecks{{Name: service, AliasService: service + "-1"}},
			}},
		})
		if service == "stray" {
			w.sidecars[service] = w.proxy(w.east, "stray-sidecar", service, "-service", service, "-listen", port.String(), "-service-addr", app.String())
		} else {
			w.sidecars[service] = w.proxy(w.west, "west-"+service+"-sidecar", service, "-sidecar-for", service+"-1")
		}
		upstreams += " -upstream " + service + ":" + w.upstreams[service].String()
		if service == "ledger" {
			continue // sync-out registers it
		}
		w.east.Register(&api.AgentServiceRegistration{
			ID: service + "-isthmus", Name: service, Address: "127.0.0.1", Port: int(w.doors[service].Port()),
			Meta: map[string]string{"isthmus-owner": "east"}, Connect: &api.AgentServiceConnect{Native: true}, // a third way
		})
	}
	w.web = g.Process("east sidecar", w.east.host(w.east.Token(w.east.name+"-"+"web", rules("web"))), "billing:9191", upstreams)
	for _, p := range w.sidecars {
		p.Start()
	}
	w.web.Start()
	w.Start()
}

// allow sets the west's intention about gateways that call a service.
func (w *world) allow(service string, action api.IntentionAction) {
	w.t.Helper()
	w.intend(w.west, service, "isthmus-gateway", action)
}

// intend sets one of Consul's intentions.
func (w *world) intend(m *mesh, service, caller string, action api.IntentionAction) {
	w.t.Helper()
	_, _, err := m.Client().ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
		Kind: api.ServiceIntentions, Name: service,
		Sources: []*api.SourceIntention{{Name: caller, Action: action, Type: api.IntentionSourceConsul}},
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
}

// httpApp answers with its caller as the gateway names it.
func httpApp(t *testing.T) netip.AddrPort {
	t.Helper()
	ln := listen(t)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Client-Cert"))
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// echoApp sends back what it gets.
func echoApp(t *testing.T) netip.AddrPort {
	t.Helper()
	ln := listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// get is web's call to billing, by its sidecar, each on a connection of its own.
func (w *world) get(ctx context.Context) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return w.getBy(ctx, client)
}

func (w *world) getBy(ctx context.Context, client *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.upstreams["billing"].String()+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, body)
	}
	return string(body), err
}

// say sends a line to ledger on a new connection and reads it back.
func (w *world) say(ctx context.Context) (string, error) { return sayTo(ctx, w.upstreams["ledger"]) }

func sayTo(ctx context.Context, address netip.AddrPort) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// until calls until it is answered, or (want "") until it is refused.
func (w *world) until(what string, call func(context.Context) (string, error), want string) {
	w.t.Helper()
	stand.Eventually(w.t, within, what, func() error {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		defer cancel()
		got, err := call(ctx)
		if (want == "") != (err != nil) || (want != "" && !strings.HasSuffix(got, want)) {
			return errors.Join(fmt.Errorf("answered %q", got), err)
		}
		return nil
	})
}

// metric sums a gateway's samples whose line has every one of the given texts.
func metric(t *testing.T, g *stand.Gateway, name string, texts ...string) float64 {
	t.Helper()
	body, err := stand.Get("http://" + g.Admin.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
lines:
	for line := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		for _, text := range texts {
			if !strings.Contains(rest, text) {
				continue lines
			}
		}
		var v float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &v); err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// gateway is the cluster's only one.
func (m *mesh) gateway() *stand.Gateway { return m.cluster.Gateways[0] }

// leaf is a certificate of the mesh's own CA.
func (m *mesh) leaf(service string) *tls.Certificate {
	m.t.Helper()
	l, _, err := m.Client().Agent().ConnectCALeaf(service, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(l.CertPEM), []byte(l.PrivateKeyPEM))
	if err != nil {
		m.t.Fatal(err)
	}
	return &cert
}

// newRoot gives the mesh's CA another root, below a key that the test knows.
func (m *mesh) newRoot() (key *ecdsa.PrivateKey, root *x509.Certificate) {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	before := m.root()
	if _, err := m.Client().Connect().CASetConfig(&api.CAConfig{Provider: "consul", Config: map[string]any{
		"PrivateKey": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
	}}, nil); err != nil {
		m.t.Fatal(err)
	}
	stand.Eventually(m.t, within, "another root", func() error {
		if root = m.root(); root.Equal(before) {
			return fmt.Errorf("it is still %s", root.Subject)
		}
		return nil
	})
	return key, root
}

// root is the active one.
func (m *mesh) root() *x509.Certificate {
	m.t.Helper()
	list, _, err := m.Client().Agent().ConnectCARoots(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range list.Roots {
		if r.ID != list.ActiveRootID {
			continue
		}
		block, _ := pem.Decode([]byte(r.RootCertPEM))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			m.t.Fatal(err)
		}
		return cert
	}
	m.t.Fatal("no root is active")
	return nil
}
