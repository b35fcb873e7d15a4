package kubernetes_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
)

// within is generous: it is real time on a shared machine.
const within = 90 * time.Second

// cluster is one namespace of the shared control plane, seen through a proxy.
type cluster struct {
	*kubetest.ControlPlane
	t         *testing.T
	namespace string
	proxy     *kubetest.Proxy
	token     string // file
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := plane(t)
	return &cluster{
		ControlPlane: c, t: t, namespace: c.Namespace(t, nil), proxy: c.Proxy(t), token: kubetest.TokenFile(t, c.AdminToken()),
	}
}

// config reads the namespace only.
func (c *cluster) config() kubernetes.Config {
	return kubernetes.Config{
		Connection: kubeapi.Connection{Server: c.proxy.URL(), TokenFile: c.token, TLS: kubeapi.TLS{CAFile: c.CAFile()}},
		Namespaces: []string{c.namespace},
	}
}

func (c *cluster) source(conf kubernetes.Config) *kubernetes.Source {
	c.t.Helper()
	s, err := kubernetes.New(kubernetes.Options{Name: "kubernetes", Config: conf})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// service makes or replaces a Service; ports are those that edit leaves.
func (c *cluster) service(name string, edit func(*corev1.Service)) {
	c.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.namespace},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if edit != nil {
		edit(s)
	}
	api := c.Client().CoreV1().Services(c.namespace)
	_, err := api.Create(c.t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		now, gerr := api.Get(c.t.Context(), name, metav1.GetOptions{})
		c.must(gerr)
		if edit != nil {
			edit(now)
		}
		_, err = api.Update(c.t.Context(), now, metav1.UpdateOptions{})
	}
	c.must(err)
}

// slice makes or replaces an EndpointSlice of a service with ready endpoints.
func (c *cluster) slice(name, service string, port int32, addresses []string, edit func(*discoveryv1.EndpointSlice)) {
	c.t.Helper()
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: c.namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: &port}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	if edit != nil {
		edit(s)
	}
	api := c.Client().DiscoveryV1().EndpointSlices(c.namespace)
	_, err := api.Create(c.t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = api.Update(c.t.Context(), s, metav1.UpdateOptions{})
	}
	c.must(err)
}

// set makes the namespace hold exactly that: of a new service the slice comes first,
// of an old one the service goes first, so that no service is ever seen without.
func (c *cluster) set(content discoverytest.Content) {
	c.t.Helper()
	ctx := c.t.Context()
	services, slicesOf := c.Client().CoreV1().Services(c.namespace), c.Client().DiscoveryV1().EndpointSlices(c.namespace)
	there, err := services.List(ctx, metav1.ListOptions{})
	c.must(err)
	for _, s := range there.Items {
		if _, stays := content[s.Name]; !stays {
			c.must(services.Delete(ctx, s.Name, metav1.DeleteOptions{}))
			c.must(slicesOf.Delete(ctx, s.Name, metav1.DeleteOptions{}))
		}
	}
	for name, addresses := range content {
		var hosts []string
		var port int32
		for _, a := range addresses {
			at := netip.MustParseAddrPort(a)
			hosts, port = append(hosts, at.Addr().String()), int32(at.Port())
		}
		c.slice(name, name, port, hosts, nil)
		c.service(name, nil)
	}
}

// watched are requests that watch, or list by streaming.
func watched(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// listed are requests that list, streaming or not, of one kind.
func listed(resource string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+resource) &&
			(!watched(r) || r.URL.Query().Get("sendInitialEvents") != "")
	}
}

// running is a source that runs and what it published.
type running struct {
	*kubernetes.Source
	t      *testing.T
	cancel context.CancelFunc
	done   chan error

	mu    sync.Mutex
	shown []*catalog.Snapshot
}

func (c *cluster) run(conf kubernetes.Config) *running {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	r := &running{Source: c.source(conf), t: c.t, cancel: cancel, done: make(chan error, 1)}
	go func() {
		r.done <- r.Run(ctx, func(s *catalog.Snapshot) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.shown = append(r.shown, s)
		})
	}()
	c.t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			c.t.Error(err)
		}
	})
	return r
}

func (r *running) last() *catalog.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.shown) == 0 {
		return nil
	}
	return r.shown[len(r.shown)-1]
}

func (r *running) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.shown)
}

// until polls.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, err := r.LastRead()
			r.t.Fatalf("%s: not within %s; shown %v, trouble: %v", what, within, discoverytest.ContentOf(r.last()), err)
		}
	}
}

func (r *running) want(what string, content discoverytest.Content) {
	r.t.Helper()
	r.until(what, func() bool {
		return r.last() != nil && discoverytest.ContentOf(r.last()).String() == content.String()
	})
}

func (r *running) trouble() error {
	_, err := r.LastRead()
	return err
}

// wantTrouble waits for a problem that says all of that.
func (r *running) wantTrouble(what string, says ...string) {
	r.t.Helper()
	r.until(what, func() bool {
		err := r.trouble()
		for _, text := range says {
			if err == nil || !strings.Contains(err.Error(), text) {
				return false
			}
		}
		return true
	})
}

// listedPage are requests for a list's later pages.
func listedPage(resource string) func(*http.Request) bool {
	return func(r *http.Request) bool { return listed(resource)(r) && r.URL.Query().Get("continue") != "" }
}
