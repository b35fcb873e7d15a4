package mcs_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
)

// bind applies rbac.yaml for an account of the world's own, under names of its own.
func (w *world) bind(but func(role *rbacv1.ClusterRole, lease *rbacv1.Role)) {
	w.t.Helper()
	data, err := os.ReadFile("rbac.yaml")
	w.must(err)
	text := strings.ReplaceAll(string(data), "namespace: isthmus\n", "namespace: "+w.namespace+"\n")
	text = strings.ReplaceAll(text, "name: isthmus-sync\n", "name: "+w.namespace+"\n")
	w.Apply(w.t, []byte(text))
	role, err := w.Client().RbacV1().ClusterRoles().Get(w.t.Context(), w.namespace, metav1.GetOptions{})
	w.must(err)
	lease, err := w.Client().RbacV1().Roles(w.namespace).Get(w.t.Context(), w.namespace, metav1.GetOptions{})
	w.must(err)
	but(role, lease)
	_, err = w.Client().RbacV1().ClusterRoles().Update(w.t.Context(), role, metav1.UpdateOptions{})
	w.must(err)
	_, err = w.Client().RbacV1().Roles(w.namespace).Update(w.t.Context(), lease, metav1.UpdateOptions{})
	w.must(err)
}

// restricted is a Sync with the rights of rbac.yaml, and something of everything to do.
func (w *world) restricted(but func(*rbacv1.ClusterRole, *rbacv1.Role)) *running {
	w.t.Helper()
	w.bind(but)
	conf := w.config()
	conf.TokenFile = kubetest.TokenFile(w.t, w.Account(w.t, w.namespace, w.namespace))
	w.service("web", nil)
	w.export("web", nil)
	w.fed.set(func(s *mcs.State) {
		s.Imports, s.Gateways = []mcs.Import{w.billing()}, []mcs.Gateway{gateway("gw1", "10.1.0.1", true)}
	})
	return w.run(conf, "a")
}

// change makes the Sync use the rest of its rights: to change, and to delete.
func (w *world) change() {
	w.fed.set(func(s *mcs.State) {
		s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", true), gateway("gw2", "10.1.0.2", true)}
	})
	w.until("a second gateway", func() error {
		if n := len(w.slices("billing")); n != 2 {
			return fmt.Errorf("%d slices", n)
		}
		return nil
	})
	svc, err := w.Client().CoreV1().Services(w.namespace).Get(w.t.Context(), "isthmus-billing", metav1.GetOptions{})
	w.must(err)
	svc.Spec.Ports = []corev1.ServicePort{{Name: "wrong", Port: 1}}
	_, err = w.Client().CoreV1().Services(w.namespace).Update(w.t.Context(), svc, metav1.UpdateOptions{})
	w.must(err)
	w.fed.set(func(s *mcs.State) {
		s.Gateways = []mcs.Gateway{gateway("gw1", "10.1.0.1", true), gateway("gw2", "10.1.0.2", false)}
	})
}

func TestLeastPrivilegeIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.restricted(func(*rbacv1.ClusterRole, *rbacv1.Role) {})
	w.wantConditions("exported", "web", valid, exported, noConflict)
	w.wantSlices("imported", "billing", "10.1.0.1 true http=7080")
	w.change()
	w.wantSlices("changed", "billing", "10.1.0.1 true http=7080", "10.1.0.2 false http=7080")
	w.fed.set(func(s *mcs.State) { s.Imports = nil })
	w.wantSlices("withdrawn", "billing")
	w.until("no trouble", func() error { return r.Status().Err })
}

// Each verb of rbac.yaml is needed; what lacks one says which.
func TestLeastPrivilegeIsLeast(t *testing.T) {
	data, err := os.ReadFile("rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "verbs:"); n != 10 {
		t.Fatalf("rbac.yaml has %d rules: the cases below are of 10", n)
	}
	for resources, verbs := range map[string]string{
		"namespaces": "list watch", "serviceexports": "list watch", "serviceexports/status": "update",
		"serviceimports": "list watch create update delete", "serviceimports/status": "update",
		"services":       "list watch create update delete",
		"endpointslices": "list watch create update delete",
		"serviceentries": "list watch create update delete",
		"leases":         "get create update",
	} {
		for verb := range strings.FieldsSeq(verbs) {
			t.Run(strings.ReplaceAll(resources, "/", "-")+" "+verb, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				without := func(rules []rbacv1.PolicyRule) {
					for i, rule := range rules {
						if slices.Contains(rule.Resources, resources) {
							rules[i].Verbs = slices.DeleteFunc(slices.Clone(rule.Verbs), func(v string) bool { return v == verb })
							if len(rules[i].Verbs) == 0 {
								rules[i].Verbs = []string{"deletecollection"} // a rule has one at least
							}
						}
					}
				}
				r := w.restricted(func(role *rbacv1.ClusterRole, lease *rbacv1.Role) {
					without(role.Rules)
					without(lease.Rules)
				})
				if verb == "update" && !strings.Contains(resources, "/") && resources != "leases" || verb == "delete" {
					w.wantSlices("imported", "billing", "10.1.0.1 true http=7080")
					w.change()
					if verb == "delete" {
						w.fed.set(func(s *mcs.State) { s.Imports = nil })
					}
				}
				w.until("it is told", func() error {
					said := fmt.Sprint(r.Status().Err)
					if !strings.Contains(said, "cannot "+verb) || !strings.Contains(said, strings.Split(resources, "/")[0]) {
						return fmt.Errorf("%s", said)
					}
					return nil
				})
			})
		}
	}
}
