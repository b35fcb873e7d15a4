package consulca_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/consulca"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// agent answers as a Consul agent does, with what a test sets. The real one is asked
// in e2e/consulmesh.
type agent struct {
	*httptest.Server
	mu      sync.Mutex
	changed chan struct{}
	index   uint64
	leaves  map[string]string // by service
	roots   string
	status  int // instead of an answer
	token   string
	asked   int
	says    string // the answer to a question about intentions
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{changed: make(chan struct{}), index: 10, leaves: map[string]string{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	a.mu.Lock()
	a.asked++
	for after > 0 && a.index == after && a.status == 0 {
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	if a.status != 0 {
		http.Error(w, "no", a.status)
		return
	}
	if a.token != "" && r.Header.Get("X-Consul-Token") != a.token {
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	if r.URL.Path == "/v1/agent/connect/authorize" {
		var q struct{ Target, ClientCertURI, ClientCertSerial string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Target != "billing" || !strings.HasSuffix(q.ClientCertURI, "/svc/web") || q.ClientCertSerial == "" {
			http.Error(w, "bad question", http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(a.says))
		return
	}
	body := a.roots
	if service, ok := strings.CutPrefix(r.URL.Path, "/v1/agent/connect/ca/leaf/"); ok {
		body = a.leaves[service]
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(a.index, 10))
	_, _ = w.Write([]byte(body))
}

// set changes what the agent has, and ends what blocks.
func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	a.index++
	close(a.changed)
	a.changed = make(chan struct{})
}

func rootsOf(cas ...*identitytest.CA) string {
	type root struct{ RootCert string }
	var v struct {
		TrustDomain string
		Roots       []root
	}
	for _, ca := range cas {
		v.TrustDomain = ca.TrustDomain().Name()
		v.Roots = append(v.Roots, root{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw}))})
	}
	return marshal(v)
}

func leafOf(svid *x509svid.SVID) string {
	certs, key, err := svid.Marshal()
	if err != nil {
		panic(err)
	}
	return marshal(map[string]string{"CertPEM": string(certs), "PrivateKeyPEM": string(key), "Service": "x"})
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// start follows one service's leaf.
func start(t *testing.T, c consulca.Config, service string) *identity.Source {
	t.Helper()
	client, err := consulca.New(consulca.Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := client.Leaf(service)
	if err != nil {
		t.Fatal(err)
	}
	src, err := identity.New(identity.Options{Feed: leaf})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = client.Run(ctx) })
	wg.Go(func() { _ = src.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return src
}

func (a *agent) config() consulca.Config {
	return consulca.Config{Address: a.Listener.Addr().String()}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func TestLeafAndRootsAreFollowed(t *testing.T) {
	old, young := identitytest.NewCA("mesh.consul"), identitytest.NewCA("mesh.consul")
	id := old.ID("/ns/default/dc/dc1/svc/billing")
	a := newAgent(t)
	a.token = "secret"
	a.roots, a.leaves["billing"] = rootsOf(old), leafOf(old.SVID(id))
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	c := a.config()
	c.TokenFile = file
	src := start(t, c, "billing")
	eventually(t, "the reason is told", func() bool { return errors.Is(src.Ready(), consulca.ErrNoPermission) })
	write("secret") // a rotated token needs no restart
	eventually(t, "an identity", func() bool { return src.Ready() == nil })
	if src.ID() != id {
		t.Errorf("it is %s, want %s", src.ID(), id)
	}
	first := src.Serial()

	a.set(func() { a.leaves["billing"] = leafOf(old.SVID(id)) })
	eventually(t, "the renewed leaf", func() bool { return src.Serial() != first })

	// A rotation of the root: both are trusted, then the leaf moves, then the old one goes.
	a.set(func() { a.roots = rootsOf(young, old) })
	eventually(t, "both roots", func() bool { return len(src.Authorities()) == 2 })
	a.set(func() { a.leaves["billing"] = leafOf(young.SVID(id)) })
	eventually(t, "a leaf of the new root", func() bool { return src.OwnAuthority() == src.Authorities()[0].KeyID })
	a.set(func() { a.roots = rootsOf(young) })
	eventually(t, "the new root alone", func() bool { return len(src.Authorities()) == 1 })
	if _, err := src.VerifyPeer(old.SVID(old.ID("/ns/default/dc/dc1/svc/web")).Certificates); err == nil {
		t.Error("a peer of the old root is still trusted")
	}
}

// Whoever answers in the agent's place must not make callers of a domain that is no
// mesh of Consul's, such as Isthmus's own.
func TestAMeshHasADomainOfItsOwn(t *testing.T) {
	ca := identitytest.NewCA("prod.example.org")
	a := newAgent(t)
	a.roots, a.leaves["billing"] = rootsOf(ca), leafOf(ca.SVID(ca.ID("/ns/default/dc/dc1/svc/billing")))
	src := start(t, a.config(), "billing")
	eventually(t, "an error that says so", func() bool {
		err := src.Ready()
		return err == nil || strings.Contains(err.Error(), "no mesh of consul has it")
	})
	if src.Ready() == nil {
		t.Errorf("it is %s", src.ID())
	}
}

func TestWhatIsHeldOutlivesTheAgent(t *testing.T) {
	ca := identitytest.NewCA("mesh.consul")
	id := ca.ID("/ns/default/dc/dc1/svc/billing")
	a := newAgent(t)
	a.roots, a.leaves["billing"] = rootsOf(ca), leafOf(ca.SVID(id))
	src := start(t, a.config(), "billing")
	eventually(t, "an identity", func() bool { return src.Ready() == nil })
	other := identitytest.NewCA("other.consul")
	for name, bad := range map[string]func(){
		"the agent fails":        func() { a.status = http.StatusInternalServerError },
		"half an answer":         func() { a.leaves["billing"] = `{"CertPEM":"-----BEGIN` },
		"no roots":               func() { a.roots = `{"TrustDomain":"mesh.consul","Roots":[]}` },
		"another service's leaf": func() { a.leaves["billing"] = leafOf(ca.SVID(ca.ID("/ns/default/dc/dc1/svc/web"))) },
		"another mesh's leaf":    func() { a.leaves["billing"] = leafOf(other.SVID(other.ID("/ns/default/dc/dc1/svc/billing"))) },
	} {
		asked := func(times int) {
			a.mu.Lock()
			before := a.asked
			a.mu.Unlock()
			eventually(t, "asked again", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.asked >= before+times
			})
		}
		a.set(bad)
		asked(2)
		a.set(func() { a.status, a.roots, a.leaves["billing"] = 0, rootsOf(ca), leafOf(ca.SVID(id)) })
		asked(1)
		if src.Ready() != nil || src.ID() != id || len(src.Authorities()) != 1 {
			t.Errorf("%s: it holds %s, %v", name, src.ID(), src.Ready())
		}
	}
	serial := src.Serial()
	a.set(func() { a.status, a.roots, a.index = 0, rootsOf(ca), 3; a.leaves["billing"] = leafOf(ca.SVID(id)) }) // the index went back, too
	eventually(t, "a new leaf", func() bool { return src.Serial() != serial })
}

func TestIntentionsAreAsked(t *testing.T) {
	ca := identitytest.NewCA("mesh.consul")
	web := ca.SVID(ca.ID("/ns/default/dc/dc1/svc/web")).Certificates[0]
	a := newAgent(t)
	client, err := consulca.New(consulca.Options{Config: a.config()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ask := func() error { return client.Authorize(t.Context(), "billing", web) }
	yes, no := `{"Authorized":true,"Reason":"ok"}`, `{"Authorized":false,"Reason":"Matched L4 intention: default/web => default/billing (Precedence: 9, Action: DENY)"}`
	denied := func(err error) bool { _, ok := errors.AsType[*consulca.DeniedError](err); return ok }
	set := func(says string, status int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.says, a.status = says, status
	}

	// What was never answered is no yes.
	for _, bad := range []string{`{}`, `{"Authorized":`, `null`} {
		set(bad, 0)
		if err := ask(); !errors.Is(err, consulca.ErrUnknown) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	set("", http.StatusInternalServerError)
	if err := ask(); !errors.Is(err, consulca.ErrUnknown) {
		t.Errorf("%v", err)
	}
	set(yes, 0)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	before := a.asked
	a.mu.Unlock()
	for range 20 { // a burst is asked about once
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	a.mu.Lock()
	if a.asked != before {
		t.Errorf("%d questions for one burst", a.asked-before)
	}
	a.mu.Unlock()

	set(no, 0)
	eventually(t, "the denial", func() bool { return denied(ask()) })
	set("", http.StatusInternalServerError) // the last answer counts
	time.Sleep(2100 * time.Millisecond)
	if err := ask(); !denied(err) {
		t.Errorf("while nobody answers: %v", err)
	}
	a.mu.Lock()
	before = a.asked
	a.mu.Unlock()
	for range 20 { // nor does each of them wait for what does not answer
		if err := ask(); !denied(err) {
			t.Errorf("while nobody answers: %v", err)
		}
	}
	a.mu.Lock()
	if a.asked != before {
		t.Errorf("%d questions to an agent that has just not answered", a.asked-before)
	}
	a.mu.Unlock()
	set(yes, 0)
	eventually(t, "it is allowed again", func() bool { return ask() == nil })
}

func TestFormOfAService(t *testing.T) {
	for path, want := range map[string]bool{
		"/ns/default/dc/dc1/svc/web": true, "/ap/team/ns/default/dc/dc1/svc/web": true,
		"/agent/client/dc/dc1/id/node": false, "/agent/server/dc/dc1": false, "/gateway/mesh/dc/dc1": false,
		"/ns/default/dc/dc1/svc/web/x": false, "/ns/default/dc/dc1/svc": false, "/x/default/dc/dc1/svc/web": false,
	} {
		id := spiffeid.RequireFromString("spiffe://11111111-2222-3333-4444-555555555555.consul" + path)
		if consulca.IsService(id) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

func TestProblems(t *testing.T) {
	for want, c := range map[string]consulca.Config{
		"":        {},
		"address": {Address: "nowhere"},
		"scheme":  {Address: "10.0.0.1:8500"}, // keys in the clear
		"tls":     {TLS: consulca.TLS{ServerName: "x"}},
	} {
		var fields []string
		for _, p := range c.Problems() {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, ","); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
	for name, good := range map[string]bool{"billing": true, "Web_2": true, "": false, "a.b": false, "a/b": false, "-a": false} {
		if err := consulca.CheckService(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	client, err := consulca.New(consulca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range consulca.MaxLeaves + 1 {
		if _, err := client.Leaf(fmt.Sprint("s", i)); (err != nil) != (i == consulca.MaxLeaves) {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
}
