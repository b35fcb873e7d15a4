package kubernetes_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
)

// everything is a configuration that asks for all kinds, by the rights of rbac.yaml.
func (c *cluster) everything(account string) kubernetes.Config {
	conf := c.config()
	conf.Namespaces, conf.NamespaceSelector = nil, "mesh="+c.namespace
	conf.Cloud, conf.Nodes = "aws", &kubernetes.Nodes{ZoneLabel: "topology.kubernetes.io/zone"}
	conf.TokenFile = kubetest.TokenFile(c.t, c.Account(c.t, c.namespace, account))
	return conf
}

// bind applies rbac.yaml under a name of the test's own, for an account of its own.
func (c *cluster) bind(account string, but func(role *rbacv1.ClusterRole)) {
	c.t.Helper()
	data, err := os.ReadFile("rbac.yaml")
	c.must(err)
	text := strings.ReplaceAll(string(data), "namespace: isthmus\n", "namespace: "+c.namespace+"\n")
	name := c.namespace + "-" + account
	text = strings.ReplaceAll(text, "name: isthmus-source\n", "name: "+name+"\n")
	text = strings.Replace(text, "kind: ServiceAccount\n    name: "+name, "kind: ServiceAccount\n    name: "+account, 1)
	c.Apply(c.t, []byte(text))
	if but == nil {
		return
	}
	roles := c.Client().RbacV1().ClusterRoles()
	role, err := roles.Get(c.t.Context(), name, metav1.GetOptions{})
	c.must(err)
	but(role)
	_, err = roles.Update(c.t.Context(), role, metav1.UpdateOptions{})
	c.must(err)
}

func (c *cluster) label(labels map[string]string) {
	c.t.Helper()
	namespaces := c.Client().CoreV1().Namespaces()
	ns, err := namespaces.Get(c.t.Context(), c.namespace, metav1.GetOptions{})
	c.must(err)
	ns.Labels = labels
	_, err = namespaces.Update(c.t.Context(), ns, metav1.UpdateOptions{})
	c.must(err)
}

// rbac.yaml is enough for everything that the source does.
func TestLeastPrivilegeIsEnough(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.bind("all", nil)
	b.set(one)
	r := b.run(b.everything("all"))
	r.want("the namespace is not chosen yet", discoverytest.Content{})
	b.label(map[string]string{"mesh": b.namespace})
	r.want("the namespace is chosen", one)

	node := b.namespace + "-node"
	_, err := b.Client().CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{
		"topology.kubernetes.io/region": "us-west-2", "topology.kubernetes.io/zone": "us-west-2b",
	}}}, metav1.CreateOptions{})
	b.must(err)
	b.slice("billing", "billing", 81, []string{"10.0.0.3"}, func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].NodeName = &node })
	r.until("the node tells the zone", func() bool {
		svc := r.last().Get(catalog.MustServiceName("billing." + b.namespace))
		return svc != nil && svc.Endpoints[0].Locality.String() == "aws/us-west-2/us-west-2b"
	})
	if err := r.trouble(); err != nil {
		t.Error(err)
	}
	b.label(nil)
	r.want("the namespace is chosen no longer", discoverytest.Content{})
}

// Each verb of rbac.yaml is needed, and what lacks one says which.
func TestLeastPrivilegeIsLeast(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	for _, kind := range []string{"services", "endpointslices", "namespaces", "nodes"} {
		for _, verb := range []string{"list", "watch"} {
			account := kind + "-" + verb
			b.bind(account, func(role *rbacv1.ClusterRole) {
				for i, rule := range role.Rules {
					if slices.Contains(rule.Resources, kind) {
						role.Rules[i].Verbs = slices.DeleteFunc(slices.Clone(rule.Verbs), func(v string) bool { return v == verb })
					}
				}
			})
			r := b.run(b.everything(account))
			r.wantTrouble("without "+account, kind, "cannot "+verb)
		}
	}
}

func TestServicesAreChosen(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(discoverytest.Content{"web": {"10.0.0.1:80"}, "billing": {"10.0.0.3:81"}})
	b.service("web", func(s *corev1.Service) { s.Labels = map[string]string{"mesh": "on"} })
	b.service("made", func(s *corev1.Service) { s.Labels = map[string]string{"mesh": "on", kubernetes.OwnerLabel: "sync"} })
	b.service("alias", func(s *corev1.Service) {
		s.Labels, s.Spec = map[string]string{"mesh": "on"}, corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}
	})
	conf := b.config()
	conf.ServiceSelector = "mesh=on"
	r := b.run(conf)
	r.want("by label", discoverytest.Content{"web": {"10.0.0.1:80"}})
	b.service("billing", func(s *corev1.Service) { s.Labels = map[string]string{"mesh": "on"} })
	r.want("another is labelled", discoverytest.Content{"web": {"10.0.0.1:80"}, "billing": {"10.0.0.3:81"}})
	conf.ExcludeNamespaces = []string{b.namespace}
	b.run(conf).want("excluded", discoverytest.Content{})
}

// A change costs the service that it is of: the others are the same values.
func TestChangeCostsTheChangedService(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(one)
	r := b.run(b.config())
	r.want("the first list", one)
	was := r.last()
	b.set(two)
	r.want("one changes", two)
	name := func(s string) catalog.ServiceName { return catalog.MustServiceName(s + "." + b.namespace) }
	now := r.last()
	if was.Get(name("billing")) != now.Get(name("billing")) || was.Get(name("web")) == now.Get(name("web")) {
		t.Error("the service that did not change was made anew, or the other was not")
	}
	n := r.count()
	b.service("web", func(s *corev1.Service) { s.Annotations = map[string]string{"unasked": "x"} }) // no news
	b.set(one)
	r.want("changed back", one)
	if r.count() != n+1 {
		t.Errorf("%d snapshots of one change", r.count()-n)
	}
}

// A list of several pages is one list, and one that is cut between two pages is none.
func TestListsOfSeveralPages(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	const services = 600 // a page has 500
	var manifests bytes.Buffer
	for i := range services {
		fmt.Fprintf(&manifests, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: %s}\nspec: {clusterIP: None, ports: [{port: 80}]}\n", i, b.namespace)
	}
	b.Apply(t, manifests.Bytes())
	second := listedPage("services")
	b.proxy.Set(kubetest.Fault{Fits: second, Cut: 100})
	r := b.run(b.config())
	r.wantTrouble("the second page is cut", "services")
	if r.count() > 0 {
		t.Error("published half of a list")
	}
	b.proxy.Set()
	r.until("both pages are read", func() bool { return r.last() != nil && r.last().Len() == services })
}
