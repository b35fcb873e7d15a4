package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

const (
	within = 2 * time.Minute
	shop   = "shop"
)

var (
	exports = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}
	imports = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}
	entries = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
)

// member is a cluster with its control plane.
type member struct {
	*stand.Cluster
	*kubetest.ControlPlane
	t *testing.T
}

type world struct {
	*stand.Stand
	own        netip.Addr
	east, west member
	client     *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{own: stand.OwnAddress(t), client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	planes := startPlanes(t)
	w.Stand = stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	t.Cleanup(w.client.CloseIdleConnections)
	w.east, w.west = member{w.Clusters[0], planes[0], t}, member{w.Clusters[1], planes[1], t}
	for _, m := range []member{w.east, w.west} {
		w.configure(m)
	}
	return w
}

// startPlanes starts two control planes at once, with the kinds of others in them.
func startPlanes(t *testing.T) [2]*kubetest.ControlPlane {
	t.Helper()
	o := kubetest.Options{APIServer: tools.Require(t, "kube-apiserver"), Etcd: tools.Command(t, "etcd")}
	files := []string{
		tools.Manifest(t, "sigs.k8s.io/mcs-api", "config/crd/multicluster.x-k8s.io_serviceexports.yaml"),
		tools.Manifest(t, "sigs.k8s.io/mcs-api", "config/crd/multicluster.x-k8s.io_serviceimports.yaml"),
		tools.Manifest(t, "istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml"),
	}
	var planes [2]*kubetest.ControlPlane
	var errs [2]error
	var wg sync.WaitGroup
	for i := range planes {
		wg.Go(func() {
			if planes[i], errs[i] = kubetest.Start(o); errs[i] != nil {
				return
			}
			t.Cleanup(planes[i].Stop)
			if errs[i] = planes[i].Definitions(t.Context(), files, exports.Resource+"."+exports.Group, imports.Resource+"."+imports.Group, entries.Resource+"."+entries.Group); errs[i] != nil {
				return
			}
			for _, name := range []string{shop, "isthmus"} {
				_, err := planes[i].Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return planes
}

// configure gives a cluster its source, by the rights of the documented role, and its sync.
func (w *world) configure(m member) {
	m.rights("../../discovery/kubernetes/rbac.yaml")
	m.rights("../../discovery/kubernetes/mcs/rbac.yaml")
	server := stand.Object{"server": m.Server(), "tls": stand.Object{"ca_file": m.CAFile()}}
	with := func(account string, more stand.Object) stand.Object {
		o := stand.Object{"token_file": kubetest.TokenFile(m.t, m.Account(m.t, "isthmus", account))}
		for _, from := range []stand.Object{server, more} {
			maps.Copy(o, from)
		}
		return o
	}
	source := m.write("source.yaml", with("isthmus-source", stand.Object{"cloud": m.Cloud, "region": m.Region, "namespaces": []string{shop}}))
	f := m.Section()
	delete(f, "exports") // ServiceExports make them
	f["sources"] = []any{stand.Object{
		"exec":  stand.Object{"name": "kubernetes", "command": []any{stand.SourceBinary(m.t), "kubernetes", "--config", source}},
		"guard": stand.Object{"window": "2s"},
	}}
	for _, g := range m.Gateways {
		g.HTTP = netip.AddrPortFrom(w.own, g.HTTP.Port())
		listen := g.Section()["listen"].(stand.Object)
		listen["http"], listen["http_sources"] = g.HTTP.String(), []any{w.own.String() + "/32"}
		g.Section()["fail_back"] = stand.Object{"hold": "1s", "step": 0.25, "interval": "500ms"}
	}
	conf := m.write("sync.yaml", with("isthmus-sync", stand.Object{
		"owner": m.Name, "lease": stand.Object{"namespace": "isthmus"}, "exports": stand.Object{"to": []any{"*"}},
		"imports": stand.Object{"hold": "2s"}, "service_entries": stand.Object{},
	}))
	stand.NewProcess(m.t, filepath.Join(w.Dir, "logs"), m.Name+"-sync", stand.SourceBinary(m.t), "kubernetes-sync", "--config", conf,
		"--api", "http://"+m.API.String(), "--token-file", m.tokenFile()).Start()
}

// tokenFile of the federation's API, written before the federation makes one.
func (m member) tokenFile() string {
	file := m.apiToken()
	dir := filepath.Dir(file)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"), 0o600)); err != nil {
		m.t.Fatal(err)
	}
	return file
}

func (m member) apiToken() string {
	return filepath.Join(m.Config["data_dir"].(string), "federation", "api.token")
}

func (m member) rights(file string) {
	m.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Apply(m.t, data)
}

func (m member) write(name string, v any) string {
	m.t.Helper()
	data, err := yaml.Marshal(v)
	if err != nil {
		m.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(m.CatalogFile), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// pod is an HTTP server that says its name.
func (w *world) pod(name string) int32 {
	ln, err := net.Listen("tcp", net.JoinHostPort(w.own.String(), "0"))
	if err != nil {
		w.T.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, name)
	})}
	go func() { _ = srv.Serve(ln) }()
	w.T.Cleanup(func() { _ = srv.Close() })
	return int32(ln.Addr().(*net.TCPAddr).Port)
}

// service makes a Service that speaks HTTP.
func (m member) service(name string) {
	m.t.Helper()
	_, err := m.Client().CoreV1().Services(shop).Create(m.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
}

// slice says where one pod of a service is, and whether it is ready.
func (m member) slice(own netip.Addr, service, pod string, port int32, ready bool) {
	m.t.Helper()
	api := m.Client().DiscoveryV1().EndpointSlices(shop)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: pod, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{own.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, Zone: new(m.Zone),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		}},
	}
	_, err := api.Create(m.t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = api.Update(m.t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m member) removeService(name, slice string) {
	m.t.Helper()
	if err := errors.Join(
		m.Client().CoreV1().Services(shop).Delete(m.t.Context(), name, metav1.DeleteOptions{}),
		m.Client().DiscoveryV1().EndpointSlices(shop).Delete(m.t.Context(), slice, metav1.DeleteOptions{}),
	); err != nil {
		m.t.Fatal(err)
	}
}

func (m member) export(name string) {
	m.t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}}}
	u.SetAPIVersion(exports.GroupVersion().String())
	u.SetKind("ServiceExport")
	if _, err := m.Dynamic().Resource(exports).Namespace(shop).Create(m.t.Context(), u, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

// where is what kube-proxy would make of the imported service: a ready endpoint.
func (m member) where(ctx context.Context, name string) (string, error) {
	im, err := m.Dynamic().Resource(imports).Namespace(shop).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if ips, _, _ := unstructured.NestedStringSlice(im.Object, "spec", "ips"); len(ips) == 0 {
		return "", errors.New("the ServiceImport has no address yet")
	}
	list, err := m.Client().DiscoveryV1().EndpointSlices(shop).List(ctx, metav1.ListOptions{LabelSelector: "multicluster.kubernetes.io/service-name=" + name})
	if err != nil {
		return "", err
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready && len(s.Ports) > 0 {
				return net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*s.Ports[0].Port))), nil
			}
		}
	}
	return "", errors.New("no slice has a ready endpoint")
}

// call asks as a pod of the cluster does, by the name of the cluster set.
func (w *world) call(address, service string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return "", err
		}
		req.Host = service + "." + shop + ".svc.clusterset.local"
		resp, err := w.client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
		}
		return string(body), err
	}
}

// until calls until ten answers in a row come from who ("" is from nobody).
func (w *world) until(what, address, service string, who ...string) {
	w.T.Helper()
	begin, streak := time.Now(), 0
	stand.Eventually(w.T, within, what, func() error {
		got, err := w.call(address, service)(w.T.Context())
		good := err == nil
		if good {
			good = false
			for _, name := range who {
				good = good || got == name
			}
		} else if len(who) == 0 {
			good = true
		}
		if !good {
			streak = 0
			return errors.Join(fmt.Errorf("answered by %q", got), err)
		}
		if streak++; streak < 10 {
			return fmt.Errorf("%d in a row", streak)
		}
		return nil
	})
	stand.Figure(w.T, "%s: calls follow after %.1f s", what, time.Since(begin).Seconds())
}

// api asks the federation's REST API.
func (m member) api(method, path, body string) ([]byte, error) {
	token, err := os.ReadFile(m.apiToken())
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(m.t.Context(), method, "http://"+m.API.String()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", resp.Status, data)
	}
	return data, err
}
