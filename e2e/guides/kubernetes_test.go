package guides_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// shop is the namespace of the page's services.
const shop = "shop"

// controlPlane is a real API server with the kinds of the Multi-Cluster Services API,
// and a kubeconfig of its administrator.
func controlPlane(t *testing.T) (plane *kubetest.ControlPlane, kubeconfig string) {
	t.Helper()
	plane, err := kubetest.Start(kubetest.Options{APIServer: tools.Require(t, "kube-apiserver"), Etcd: tools.Command(t, "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	const prefix = "config/crd/multicluster.x-k8s.io_"
	files := []string{tools.Manifest(t, "sigs.k8s.io/mcs-api", prefix+"serviceexports.yaml"), tools.Manifest(t, "sigs.k8s.io/mcs-api", prefix+"serviceimports.yaml")}
	if err := plane.Definitions(t.Context(), files, "serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(plane.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	err = os.WriteFile(kubeconfig, fmt.Appendf(nil, `
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
`, plane.Server(), base64.StdEncoding.EncodeToString(ca), plane.AdminToken()), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return plane, kubeconfig
}

// pod does what Kubernetes' controllers do for the one pod of a Service.
func pod(t *testing.T, plane *kubetest.ControlPlane, service, address string) {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	_, err := plane.Client().DiscoveryV1().EndpointSlices(shop).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(at.Port())), AppProtocol: new("http")}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// proxied is what kube-proxy would make of an imported service: a ready endpoint of it.
func proxied(ctx context.Context, plane *kubetest.ControlPlane, service string) (string, error) {
	list, err := plane.Client().DiscoveryV1().EndpointSlices(shop).List(ctx, metav1.ListOptions{LabelSelector: "multicluster.kubernetes.io/service-name=" + service})
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

func TestKubernetesToVirtualMachines(t *testing.T) {
	own := stand.OwnAddress(t)
	plane, kubeconfig := controlPlane(t)
	g := guide.Read(t, "kubernetes-to-vms.md", tools.Require(t, "kubectl"), stand.Binary(t), stand.SourceBinary(t))
	s := stand.New(t,
		stand.Spec{Name: "k8s", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "k8s.example.org"},
		stand.Spec{Name: "vms", Cloud: "dc", Region: "cellar", Zone: "b", TrustDomain: "vms.example.org"},
	)
	k8s, vms := s.Clusters[0], s.Clusters[1]
	for _, c := range s.Clusters {
		unruled(c, "exports", "imports", "intentions", "sources")
		for _, p := range c.Section()["peers"].([]any) { // which is joined by the page on peering, and asserts as that does
			peer := p.(stand.Object)
			peer["asserts"] = []any{strings.Replace("spiffe://NAME.example.org/*", "NAME", peer["name"].(string), 1)}
		}
	}
	inside, machine := host(t, s, k8s), host(t, s, vms)
	inside.Env = append(inside.Env, "KUBECONFIG="+kubeconfig)
	inside.Replace = append(inside.Replace, "https://kubernetes.example.org:6443", plane.Server(),
		"http://127.0.0.1:7480", "http://"+k8s.API.String(), "/var/lib/isthmus/federation/api.token", apiToken(k8s))
	checkout := *inside
	checkout.Dir = stand.Root(t)
	machine.Replace = append(machine.Replace, "127.0.0.1:7080", vms.Gateways[0].HTTP.String())

	// The cluster, and what is written down before anything runs.
	g.Run("kinds", inside)
	g.Run("rights", &checkout)
	g.Run("tokens", inside)
	g.File("source", "/etc/isthmus/kubernetes.yaml", inside)
	g.Run("check", inside)
	g.File("sync config", "/etc/isthmus/kubernetes-sync.yaml", inside, "imports: {}", "imports: {hold: 2s}")
	federation := g.Section("k8s config", "federation", inside, "isthmus-source,", stand.SourceBinary(t)+",")
	way := netip.AddrPortFrom(own, k8s.Gateways[0].HTTP.Port())
	gateway := g.Section("k8s config", "gateway", inside, "10.1.0.5:7080", way.String(), "10.1.0.0/16", own.String()+"/32")
	k8s.Section()["sources"] = federation["sources"]
	maps.Copy(k8s.Gateways[0].Section()["listen"].(stand.Object), gateway["listen"].(map[string]any))
	machineAddress, _ := instance(t, "127.0.0.1:0", "ledger on a machine")
	g.File("vms catalog", "/etc/isthmus/catalog.yaml", machine, "10.2.0.7:8080", machineAddress)
	vms.Section()["sources"] = g.Section("vms config", "federation", machine)["sources"]
	vms.Section()["sources"].([]any)[0].(map[string]any)["allow"] = []any{"127.0.0.0/8"}
	vms.Gateways[0].Section()["listen"].(stand.Object)["http_caller"] = "spiffe://vms.example.org/machines"
	s.Start()
	g.Process("sync", inside).Start()

	// From the machines to Kubernetes.
	if _, err := plane.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	g.Run("export", inside)
	podAddress, _ := instance(t, own.String()+":0", "billing in a pod")
	pod(t, plane, "billing", podAddress)
	g.Run("k8s allow", inside)
	prints(t, g, "exported", inside, "Ready=True Exported")
	g.Run("vms take", machine)
	if got := prints(t, g, "vms call", machine, "billing in a pod"); got != "billing in a pod" {
		t.Errorf("answered %q", got)
	}
	stand.Figure(t, "a machine calls a pod %.1f s after its export", time.Since(began).Seconds())

	// From Kubernetes to the machines.
	began = time.Now()
	g.Run("vms offer", machine)
	g.Run("k8s take", inside)
	prints(t, g, "imported", inside, " vms\n")
	var address string
	stand.Eventually(t, within, "the import has an endpoint", func() (err error) {
		address, err = proxied(t.Context(), plane, "ledger")
		return err
	})
	if address != way.String() {
		t.Errorf("the import is at %s, want the gateway's way in, %s", address, way)
	}
	// The name is CoreDNS's, and the way to the endpoint kube-proxy's: here it is curl's.
	prints(t, g, "pod call", inside, "ledger on a machine", "curl -sf", "curl -sf --connect-to ::"+address)
	stand.Figure(t, "a pod calls a machine %.1f s after the import", time.Since(began).Seconds())

	g.Run("undo", inside)
	stand.Eventually(t, within, "both directions are undone", func() error {
		_, call := g.Try("vms call", machine)
		_, list := g.Try("imported", inside)
		if call == nil || list == nil {
			return fmt.Errorf("call %w, import %w", call, list)
		}
		return nil
	})
}
