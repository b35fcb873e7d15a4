package sniway_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/sniway"
)

const domain = "11111111-2222-3333-4444-555555555555.consul"

var names = sniway.Names{
	TrustDomain: domain,
	Datacenters: map[string]string{"dc2": "gcp-europe", "dc3": sniway.AnyCluster},
	Ports:       map[string]string{"8443": "https"},
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"web.shop.mesh":                                    "web.shop.mesh",
		"WEB.Shop.MESH":                                    "web.shop.mesh",
		"web.shop.mesh.":                                   "web.shop.mesh",
		"web.shop.gcp-europe.mesh":                         "web.shop.gcp-europe.mesh",
		"_https.web.shop.mesh":                             "_https.web.shop.mesh",
		"web.default.dc2.internal." + domain:               "web.default.gcp-europe.mesh",
		"web.shop.dc3.internal." + strings.ToUpper(domain): "web.shop.mesh",
		"outbound_.8443_._.web.shop.svc.cluster.local":     "_https.web.shop.mesh",
		"outbound_.80_._.web.shop.svc.cluster.local":       "web.shop.mesh",
		"outbound_.80_._.web.shop.svc.clusterset.local":    "web.shop.mesh",
	} {
		got, err := names.Parse(name)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestOtherNamesAreRefused(t *testing.T) {
	for name, want := range map[string]error{
		"":                                      sniway.ErrNoName,
		"example.org":                           sniway.ErrUnknown,
		"web.shop":                              sniway.ErrUnknown,
		"mesh":                                  sniway.ErrUnknown,
		".mesh":                                 sniway.ErrUnknown,
		"web.mesh":                              sniway.ErrUnknown,
		"a.b.c.d.mesh":                          sniway.ErrUnknown,
		"web..mesh":                             sniway.ErrUnknown,
		"web.shop:443.mesh":                     sniway.ErrUnknown,
		"web.shop.mesh:443":                     sniway.ErrUnknown,
		"federation.alpha.mesh":                 sniway.ErrReserved,
		"w\u00e9b.shop.mesh":                    sniway.ErrUnknown,
		"\u212aeb.shop.mesh":                    sniway.ErrUnknown, // the Kelvin sign folds to k
		"web .shop.mesh":                        sniway.ErrUnknown,
		strings.Repeat("a.", 127) + "mesh":      sniway.ErrUnknown,
		"web.default.dc1.internal." + domain:    sniway.ErrUnknown,
		"web.default.dc2.internal.other.consul": sniway.ErrUnknown,
		"web.default.dc2.internal":              sniway.ErrUnknown,
		"v1.web.default.dc2.internal." + domain: sniway.ErrUnknown,
		"web.dc2.internal." + domain:            sniway.ErrUnknown,
		"outbound_.8443_.v1_.web.shop.svc.cluster.local": sniway.ErrUnknown,
		"outbound_.0_._.web.shop.svc.cluster.local":      sniway.ErrUnknown,
		"outbound_.080_._.web.shop.svc.cluster.local":    sniway.ErrUnknown,
		"outbound_.65536_._.web.shop.svc.cluster.local":  sniway.ErrUnknown,
		"outbound_.80_._.web.shop":                       sniway.ErrUnknown,
		"outbound_.80_._.web.shop.mesh":                  sniway.ErrUnknown,
		"outbound_.80_.web.shop.svc.cluster.local":       sniway.ErrUnknown,
	} {
		got, err := names.Parse(name)
		if !errors.Is(err, want) {
			t.Errorf("%q: %s, %v; want %v", name, got, err, want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%q: an error of %d bytes", name, len(err.Error()))
		}
	}
	var none sniway.Names
	if got, err := none.Parse("web.default.dc2.internal." + domain); !errors.Is(err, sniway.ErrUnknown) {
		t.Errorf("without a trust domain: %s, %v", got, err)
	}
}

func TestProblemsOfNames(t *testing.T) {
	if p := names.Problems(); len(p) != 0 {
		t.Errorf("a good one: %+v", p)
	}
	bad := sniway.Names{
		TrustDomain: "Upper.consul", Datacenters: map[string]string{"dc 1": "east", "dc2": "East"}, Ports: map[string]string{"0": "https", "80": "-"},
	}
	var fields []string
	for _, p := range bad.Problems() {
		fields = append(fields, p.Field)
	}
	if got := strings.Join(fields, " "); got != "trust_domain datacenters datacenters.dc2 ports ports.80" {
		t.Errorf("problems in %s", got)
	}
	for _, half := range []sniway.Names{{TrustDomain: domain}, {Datacenters: names.Datacenters}} {
		if p := half.Problems(); len(p) != 1 || p[0].Field != "datacenters" {
			t.Errorf("%+v: %+v", half, p)
		}
	}
}

// FuzzParse: whatever is read has a canonical form that is read to the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"web.shop.mesh", "_https.web.shop.east.mesh", "web.default.dc2.internal." + domain, "outbound_.8443_._.web.shop.svc.cluster.local"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := names.Parse(s)
		if err != nil {
			return
		}
		again, err := names.Parse(got.String())
		if err != nil || again != got {
			t.Errorf("%q is %s, which is %s, %v", s, got, again, err)
		}
	})
}
