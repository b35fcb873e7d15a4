package kubernetes_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
)

var (
	one = discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}, "billing": {"10.0.0.3:81"}}
	two = discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.4:80"}, "billing": {"10.0.0.3:81"}}
)

// keeps fails if anything but these was published.
func (r *running) keeps(but ...discoverytest.Content) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
shown:
	for _, s := range r.shown {
		for _, c := range but {
			if discoverytest.ContentOf(s).String() == c.String() {
				continue shown
			}
		}
		r.t.Errorf("published %v", discoverytest.ContentOf(s))
	}
}

// Each fault is reported while it lasts, withdraws nothing, and heals by itself. What
// changes meanwhile arrives afterwards.
func TestFaultsAreReportedAndWithdrawNothing(t *testing.T) {
	gone := kubetest.Fault{Fits: watched, Status: http.StatusGone}
	for _, c := range []struct {
		name   string
		faults []kubetest.Fault
		says   string
	}{
		{"throttled by priority and fairness", []kubetest.Fault{{Status: http.StatusTooManyRequests, RetryAfter: 1}}, "the test answers 429"},
		{"overloaded", []kubetest.Fault{{Status: http.StatusServiceUnavailable}}, "the test answers 503"},
		{"its etcd is gone", []kubetest.Fault{{Status: http.StatusInternalServerError}}, "the test answers 500"},
		{"the revision is too old and the list is cut in the middle", []kubetest.Fault{gone, {Fits: listed("endpointslices"), Cut: 300}}, "endpointslices"},
		{"the list is no list", []kubetest.Fault{gone, {Fits: listed("services"), Empty: true}}, "services"},
		{"forbidden", []kubetest.Fault{{Fits: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/services") }, Status: http.StatusForbidden}}, "services"},
		{"the token has expired", []kubetest.Fault{{Status: http.StatusUnauthorized}}, "the test answers 401"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // client-go itself is patient where it is asked to be
			b := newCluster(t)
			b.set(one)
			r := b.run(b.config())
			r.want("the first list", one)
			b.proxy.Set(c.faults...)
			b.proxy.Drop()
			r.wantTrouble("the fault is reported", c.says)
			if n := r.count(); n != 1 {
				t.Errorf("published %d snapshots, one before the fault", n)
			}
			b.proxy.Set()
			b.set(two)
			r.want("what changed meanwhile", two)
			r.until("no trouble is left", func() bool { return r.trouble() == nil })
			r.keeps(one, two)
		})
	}
}

// 410 Gone alone is no fault: everything is listed anew, and nothing is withdrawn in
// between.
func TestRevisionThatIsGoneIsListedAnew(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(one)
	r := b.run(b.config())
	r.want("the first list", one)
	before := b.proxy.Lists("services")
	b.proxy.Set(kubetest.Fault{Fits: func(r *http.Request) bool { return watched(r) && r.URL.Query().Get("sendInitialEvents") == "" }, Status: http.StatusGone})
	b.proxy.Drop()
	r.until("listed anew", func() bool { return b.proxy.Lists("services") > before })
	b.proxy.Set()
	b.set(two)
	r.want("what changed", two)
	r.keeps(one, two)
}

// An empty answer is believed when it is one: a complete list of nothing.
func TestEmptyNamespaceIsEmpty(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	r := b.run(b.config())
	r.want("nothing is there", discoverytest.Content{})
	b.set(one)
	r.want("something is", one)
	b.set(discoverytest.Content{})
	r.want("nothing is there again", discoverytest.Content{})
}

func TestRereadPublishesWhatDidNotChange(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(one)
	r := b.run(b.config())
	r.want("the first list", one)
	n := r.count()
	r.Reread()
	r.until("published again", func() bool { return r.count() > n })
	r.keeps(one)
	if at, err := r.LastRead(); err != nil || time.Since(at) > within {
		t.Errorf("last read %v, %v", at, err)
	}
}

// The permissions are taken away while the source runs: an open watch goes on, the
// next request is refused, and that is told. Given back, all is well.
func TestPermissionsThatAreTakenAway(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(one)
	token := b.Account(t, b.namespace, "reader")
	grant := b.grant("reader", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}},
		rbacv1.PolicyRule{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}})
	b.token = kubetest.TokenFile(t, token)
	r := b.run(b.config())
	r.want("what the role allows", one)

	b.must(b.Client().RbacV1().RoleBindings(b.namespace).Delete(t.Context(), grant.Name, metav1.DeleteOptions{}))
	b.proxy.Drop()
	r.wantTrouble("the refusal is reported", "services", "endpointslices", "forbidden")
	r.keeps(one)

	grant.ResourceVersion = ""
	_, err := b.Client().RbacV1().RoleBindings(b.namespace).Create(t.Context(), grant, metav1.CreateOptions{})
	b.must(err)
	b.set(two)
	r.want("what changed meanwhile", two)
	r.keeps(one, two)
}

// grant binds a role of the namespace to one of its service accounts.
func (c *cluster) grant(account string, rules ...rbacv1.PolicyRule) *rbacv1.RoleBinding {
	c.t.Helper()
	_, err := c.Client().RbacV1().Roles(c.namespace).Create(c.t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: account}, Rules: rules}, metav1.CreateOptions{})
	c.must(err)
	b, err := c.Client().RbacV1().RoleBindings(c.namespace).Create(c.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: c.namespace, Name: account}},
	}, metav1.CreateOptions{})
	c.must(err)
	return b
}

// A token that the server no longer takes is replaced in its file; nothing restarts.
func TestTokenIsReadAnew(t *testing.T) {
	t.Parallel()
	b := newCluster(t)
	b.set(one)
	token := b.Account(t, b.namespace, "reader")
	b.grant("reader", rbacv1.PolicyRule{APIGroups: []string{"", "discovery.k8s.io"}, Resources: []string{"services", "endpointslices"}, Verbs: []string{"list", "watch"}})
	b.token = kubetest.TokenFile(t, token)
	r := b.run(b.config())
	r.want("what the token opens", one)

	accounts := b.Client().CoreV1().ServiceAccounts(b.namespace)
	b.must(accounts.Delete(t.Context(), "reader", metav1.DeleteOptions{}))
	fresh := b.Account(t, b.namespace, "reader")        // of the same name, but another account
	r.until("the dead token is reported", func() bool { // the server believes it for some seconds more
		b.proxy.Drop()
		time.Sleep(200 * time.Millisecond)
		return r.trouble() != nil && strings.Contains(r.trouble().Error(), "Unauthorized")
	})
	if err := r.trouble(); err != nil && strings.Contains(err.Error(), token) {
		t.Error("the report shows the token")
	}
	b.must(os.WriteFile(b.token, []byte(fresh), 0o600))
	b.set(two)
	r.want("what changed meanwhile", two)
	r.keeps(one, two)
}

// The API server is killed and started again. It runs alone: the others share it.
func TestAPIServerIsKilled(t *testing.T) {
	b := newCluster(t)
	b.set(one)
	conf := b.config()
	conf.Server = b.Server()
	r := b.run(conf)
	r.want("the first list", one)
	b.KillAPIServer()
	r.wantTrouble("the loss is reported", "services", "endpointslices")
	r.keeps(one)
	began := time.Now()
	b.must(b.StartAPIServer())
	back := time.Now()
	b.set(two)
	r.want("what changed after the restart", two)
	t.Logf("figure: API server ready %.1f s after its start, the source follows %.1f s later", back.Sub(began).Seconds(), time.Since(back).Seconds())
	r.keeps(one, two)
}
