package authority_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/authority"
)

func name(service, port, cluster string) authority.Name {
	return authority.Name{Service: catalog.MustServiceName(service), Port: port, Cluster: catalog.ClusterName(cluster)}
}

func TestForms(t *testing.T) {
	tests := map[string]authority.Name{
		"billing.default":                      name("billing.default", "", ""),
		"billing.default.mesh":                 name("billing.default", "", ""),
		"billing.default.mesh.":                name("billing.default", "", ""),
		"billing.default.mesh:7080":            name("billing.default", "", ""),
		"billing.default.mesh.:0":              name("billing.default", "", ""),
		"BILLING.Default.MESH:65535":           name("billing.default", "", ""),
		"billing.default.gcp-us.mesh":          name("billing.default", "", "gcp-us"),
		"_grpc.billing.default.mesh":           name("billing.default", "grpc", ""),
		"_GRPC.billing.default:80":             name("billing.default", "grpc", ""),
		"_grpc.billing.default.onprem.mesh.:9": name("billing.default", "grpc", "onprem"),
		"billing.mesh":                         name("billing.mesh", "", ""),    // a namespace may be called mesh
		"billing.service.consul":               name("billing.default", "", ""), // Consul's DNS
		"_grpc.Billing.service.consul.:7080":   name("billing.default", "grpc", ""),
		"billing.shop.svc":                     name("billing.shop", "", ""), // Kubernetes' DNS
		"_api.Billing.shop.svc.cluster.local.": name("billing.shop", "api", ""),
		"billing.shop.svc.clusterset.local:80": name("billing.shop", "", ""),
		"billing.shop.svc.mesh":                name("billing.shop", "", "svc"),
		"billing.service":                      name("billing.service", "", ""),
		"mesh.mesh.mesh.mesh":                  name("mesh.mesh", "", "mesh"),
		strings.Repeat("a", 63) + ".b":         name(strings.Repeat("a", 63)+".b", "", ""),
	}
	for in, want := range tests {
		got, err := authority.Parse(in)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, in := range []string{
		"", ".", "mesh", ".mesh", "billing", "billing.", ".default", "billing..mesh", "billing.default.mesh..",
		"billing.default.svc.local", "billing.default.svc.cluster", "a.b.svc.cluster.local.mesh", "svc.clusterset.local", "a.b.c.d", "a.b.c.d.mesh", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "::1",
		"billing.default.mesh:", "billing.default.mesh:http", "billing.default.mesh:-1", "billing.default.mesh:+1",
		"billing.default.mesh:65536", "billing.default.mesh:000080", "billing.default:80:80",
		"*.default.mesh", "billing.*", "bill_ing.default.mesh", "-billing.default.mesh", "billing-.default.mesh",
		"user@billing.default.mesh", "billing.default.mesh/", "billing.default.mesh\x00", "billing.default\x00.mesh",
		" billing.default.mesh", "billing.default.mesh ", "billing.default.mesh\r\n", "b\u0131lling.default.mesh",
		"\u212ailling.default.mesh", "xn--\u00fc.default.mesh", "billing%2edefault.mesh", "billing.default.CL_US.mesh",
		"_.billing.default.mesh", "_grpc", "_grpc.billing", "__grpc.billing.default.mesh", "_grpc._http.billing.default.mesh",
		"billing._grpc.default.mesh", strings.Repeat("a", 64) + ".default.mesh",
	} {
		if got, err := authority.Parse(in); !errors.Is(err, authority.ErrMalformed) {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"federation.alpha.mesh", "FEDERATION.alpha", "_x.federation.alpha.beta.mesh."} {
		if got, err := authority.Parse(in); !errors.Is(err, authority.ErrReserved) {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
	long := strings.Repeat("a.", 131)
	if _, err := authority.Parse(long + "mesh"); !errors.Is(err, authority.ErrTooLong) {
		t.Errorf("%d bytes: %v", len(long)+4, err)
	}
}

// FuzzParse: whatever is accepted has one canonical form, and reads back from it
// to the same name; no spelling means two things.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"billing.default.mesh", "_grpc.billing.default.gcp.mesh.:443", "BILLING.default", "a.b.c.mesh:0", "[::1]:80",
		"federation.alpha.mesh", "..", "_", ":", "mesh.mesh.mesh.mesh",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := authority.Parse(s)
		if err != nil {
			if n != (authority.Name{}) {
				t.Fatalf("%q: an error and %+v", s, n)
			}
			return
		}
		if n.Service.IsZero() || n.Service.IsFederation() {
			t.Fatalf("%q: %+v", s, n)
		}
		canonical := n.String()
		again, err := authority.Parse(canonical)
		if err != nil || again != n || again.String() != canonical {
			t.Fatalf("%q is %q, which is %+v, %v", s, canonical, again, err)
		}
		for _, same := range []string{canonical + ".", canonical + ":1", strings.ToUpper(canonical)} {
			if got, err := authority.Parse(same); err != nil || got != n {
				t.Fatalf("%q: %+v, %v; want %+v", same, got, err, n)
			}
		}
	})
}
