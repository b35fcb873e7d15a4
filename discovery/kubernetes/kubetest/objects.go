package kubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// Namespace makes a namespace of its own for a test; nothing removes it, since no
// controller would finish that.
func (c *ControlPlane) Namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	ns, err := c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// Account makes a service account and returns a token of it.
func (c *ControlPlane) Account(t testing.TB, namespace, name string) string {
	t.Helper()
	accounts := c.client.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), name, &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// TokenFile writes a token to a file of the test.
func TokenFile(t testing.TB, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Apply creates what manifests say, or replaces it; each replace function may change
// the text first.
func (c *ControlPlane) Apply(t testing.TB, manifests []byte) {
	t.Helper()
	if err := c.apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

func (c *ControlPlane) apply(ctx context.Context, manifests []byte) error {
	groups, err := restmapper.GetAPIGroupResources(c.client.Discovery())
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		var u unstructured.Unstructured
		if err := docs.Decode(&u); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(u.Object) == 0 {
			continue
		}
		gvk := u.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return err
		}
		var api dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			api = c.dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace())
		}
		if _, err := api.Apply(ctx, u.GetName(), &u, metav1.ApplyOptions{FieldManager: "kubetest", Force: true}); err != nil {
			return fmt.Errorf("%s %s: %w", gvk.Kind, u.GetName(), err)
		}
	}
}

// Definitions applies the CustomResourceDefinitions of these files, those whose names
// begin with one of the prefixes, and waits until their kinds are served.
func (c *ControlPlane) Definitions(ctx context.Context, files []string, names ...string) error {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for doc := range bytes.SplitSeq(data, []byte("\n---")) {
			for _, name := range names {
				if strings.Contains(string(doc), "\n  name: "+name+"\n") {
					if err := c.apply(ctx, doc); err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
				}
			}
		}
	}
	for _, name := range names {
		if err := c.served(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// served waits until PLURAL.GROUP is served.
func (c *ControlPlane) served(ctx context.Context, name string) error {
	plural, group, _ := strings.Cut(name, ".")
	return c.api.until(func() error {
		_, lists, err := c.client.Discovery().ServerGroupsAndResources()
		for _, l := range lists {
			for _, r := range l.APIResources {
				if r.Name == plural && strings.HasPrefix(l.GroupVersion, group+"/") {
					return nil
				}
			}
		}
		if ctx.Err() != nil {
			return nil // the caller sees it
		}
		time.Sleep(100 * time.Millisecond)
		return errors.Join(fmt.Errorf("%s is not served", name), err)
	})
}
