package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func service(edit func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

// pod is an endpoint of a pod of that name.
func pod(name, address string, edit func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: name, UID: types.UID("uid-" + name)},
	}
	if edit != nil {
		edit(&e)
	}
	return e
}

func slice(name string, family discoveryv1.AddressType, ports map[string]int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: family, Endpoints: endpoints,
	}
	for name, port := range ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port})
	}
	return s
}

// row is an endpoint in one line.
func row(e catalog.Endpoint) string {
	return fmt.Sprintf("%s %s %s %s", e.ID, e.Health, e.Locality, e.Address)
}

func TestConvert(t *testing.T) {
	base := Config{Cloud: "aws", Region: "us-east-1", Labels: []string{"version"}, Meta: []string{"team", "note"}}.WithDefaults()
	only := map[string]int32{"": 8080}
	for _, c := range []struct {
		name    string
		conf    func(*Config)
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		nodes   map[string]catalog.Locality
		ports   string
		want    []string
		bad     []string
	}{
		{
			name:    "conditions are health",
			service: service(nil), ports: "default:tcp",
			slices: []*discoveryv1.EndpointSlice{slice("a", "IPv4", only,
				pod("a", "10.0.0.1", nil),
				pod("b", "10.0.0.2", func(e *discoveryv1.Endpoint) { e.Conditions = discoveryv1.EndpointConditions{} }),
				pod("c", "10.0.0.3", func(e *discoveryv1.Endpoint) { e.Conditions.Ready = new(false) }),
				pod("d", "10.0.0.4", func(e *discoveryv1.Endpoint) {
					e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
				}),
				pod("e", "10.0.0.5", func(e *discoveryv1.Endpoint) {
					e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(true)}
				}),
			)},
			want: []string{
				"default/a/10.0.0.1:8080 passing aws/us-east-1 10.0.0.1:8080",
				"default/b/10.0.0.2:8080 unknown aws/us-east-1 10.0.0.2:8080",
				"default/c/10.0.0.3:8080 critical aws/us-east-1 10.0.0.3:8080",
				"default/d/10.0.0.4:8080 maintenance aws/us-east-1 10.0.0.4:8080",
				"default/e/10.0.0.5:8080 critical aws/us-east-1 10.0.0.5:8080",
			},
		},
		{
			name: "ports and what they speak",
			service: service(func(s *corev1.Service) {
				s.Spec.Ports = []corev1.ServicePort{
					{Name: "http-web", Port: 80},
					{Name: "api", Port: 81, AppProtocol: new("kubernetes.io/h2c")},
					{Name: "grpc", Port: 82},
					{Name: "https", Port: 83, AppProtocol: new("example.com/own")},
					{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
					{Name: "sig", Port: 84, Protocol: corev1.ProtocolSCTP},
					{Name: "db", Port: 85},
				}
			}),
			ports:  "api:grpc db:tcp dns:udp grpc:grpc http-web:http https:tls",
			slices: []*discoveryv1.EndpointSlice{slice("a", "IPv4", map[string]int32{"http-web": 8080, "sig": 8084, "other": 1}, pod("a", "10.0.0.1", nil))},
			want:   []string{"http-web/a/10.0.0.1:8080 passing aws/us-east-1 10.0.0.1:8080"},
			bad:    []string{"sig port"},
		},
		{
			name: "two families are one endpoint, of the first family",
			service: service(func(s *corev1.Service) {
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
			}),
			ports: "default:tcp",
			slices: []*discoveryv1.EndpointSlice{
				slice("a", "IPv4", only, pod("a", "10.0.0.1", nil), pod("b", "10.0.0.2", nil)),
				slice("b", "IPv6", only, pod("a", "fd00::1", nil)),
			},
			want: []string{"default/a/[fd00::1]:8080 passing aws/us-east-1 [fd00::1]:8080", "default/b/10.0.0.2:8080 passing aws/us-east-1 10.0.0.2:8080"},
		},
		{
			name:    "an endpoint that moves between slices is one, by the better word",
			service: service(nil), ports: "default:tcp",
			slices: []*discoveryv1.EndpointSlice{
				slice("a", "IPv4", only, pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.Conditions.Ready = new(false) })),
				slice("b", "IPv4", only, pod("a", "10.0.0.1", nil)),
			},
			want: []string{"default/a/10.0.0.1:8080 passing aws/us-east-1 10.0.0.1:8080"},
		},
		{
			name:    "zones: the slice's, the node's, ids, and none",
			service: service(nil), ports: "default:tcp",
			conf: func(c *Config) {
				c.ZoneIDs, c.Nodes = map[string]string{"us-east-1a": "use1-az4"}, &Nodes{RegionLabel: "r", ZoneLabel: "z"}
			},
			nodes: map[string]catalog.Locality{"n1": {Region: "us-west-2", Zone: "usw2-az1"}, "n2": {}},
			slices: []*discoveryv1.EndpointSlice{slice("a", "IPv4", only,
				pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.Zone = new("us-east-1a") }),
				pod("b", "10.0.0.2", func(e *discoveryv1.Endpoint) { e.Zone, e.NodeName = new("us-west-2a"), new("n1") }),
				pod("c", "10.0.0.3", func(e *discoveryv1.Endpoint) { e.Zone, e.NodeName = new("us-east-1b"), new("n2") }),
				pod("d", "10.0.0.4", func(e *discoveryv1.Endpoint) { e.Zone = new("Zone A") }),
			)},
			want: []string{
				"default/a/10.0.0.1:8080 passing aws/us-east-1/use1-az4 10.0.0.1:8080",
				"default/b/10.0.0.2:8080 passing aws/us-west-2/usw2-az1 10.0.0.2:8080",
				"default/c/10.0.0.3:8080 passing aws/us-east-1/us-east-1b 10.0.0.3:8080",
				"default/d/10.0.0.4:8080 passing aws/us-east-1 10.0.0.4:8080",
			},
			bad: []string{"default/d/10.0.0.4:8080 zone"},
		},
		{
			name:    "headless, without a target",
			service: service(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), ports: "default:tcp",
			slices: []*discoveryv1.EndpointSlice{slice("a", "IPv4", only, discoveryv1.Endpoint{Addresses: []string{"10.0.0.9", "10.0.0.10"}})},
			want:   []string{"default/10.0.0.9:8080 unknown aws/us-east-1 10.0.0.9:8080"},
		},
		{
			name:    "headless, without ports",
			service: service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }),
			bad:     []string{" port"},
		},
		{name: "an alias", service: service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), bad: []string{" external_name"}},
		{name: "reserved", service: service(func(s *corev1.Service) { s.Name = "federation" }), bad: []string{" name"}},
		{name: "made for an import", service: service(func(s *corev1.Service) { s.Labels = map[string]string{OwnerLabel: "sync"} })},
		{
			name:    "names of hosts",
			service: service(nil), ports: "default:tcp",
			slices: []*discoveryv1.EndpointSlice{slice("a", "FQDN", only, pod("a", "db.example.org", nil))},
			bad:    []string{"a address"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base
			if c.conf != nil {
				c.conf(&conf)
			}
			s, rejects := conf.convert(c.service, c.slices, c.nodes)
			var ports, rows, bad []string
			if s != nil {
				if _, err := catalog.NewSnapshot("test", []*catalog.Service{s}); err != nil {
					t.Fatal(err)
				}
				for _, p := range s.Ports {
					ports = append(ports, p.Name+":"+string(p.Protocol))
				}
				for _, e := range s.Endpoints {
					rows = append(rows, row(e))
				}
			}
			for _, r := range rejects {
				bad = append(bad, r.endpoint+" "+r.reason)
			}
			slices.Sort(rows)
			if got := strings.Join(ports, " "); got != c.ports {
				t.Errorf("ports %q, want %q", got, c.ports)
			}
			if !slices.Equal(rows, c.want) {
				t.Errorf("endpoints\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(c.want, "\n"))
			}
			if !slices.Equal(bad, c.bad) {
				t.Errorf("rejected %q, want %q", bad, c.bad)
			}
		})
	}
}

// Labels and annotations beyond the catalog's bounds are left out, their service not.
func TestLabelsThatDoNotFit(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Labels = map[string]string{"team": "a", "version": "v1"}
		s.Annotations = map[string]string{"note": strings.Repeat("x", catalog.MaxLabelValueLen+1), "other": "unasked"}
	})
	sl := slice("a", "IPv4", map[string]int32{"": 80}, pod("a", "10.0.0.1", nil))
	conf := Config{Labels: []string{"version"}, Meta: []string{"team", "note"}}.WithDefaults()
	s, bad := conf.convert(svc, []*discoveryv1.EndpointSlice{sl}, nil)
	if s == nil || len(s.Meta) != 1 || s.Meta["team"] != "a" || s.Endpoints[0].Labels["version"] != "v1" {
		t.Errorf("%+v", s)
	}
	if len(bad) != 1 || bad[0] != (rejected{"note", badLabel}) {
		t.Errorf("rejected %v", bad)
	}
	sl.Labels["version"] = "v2" // a slice's own word goes first
	if s, _ := conf.convert(svc, []*discoveryv1.EndpointSlice{sl}, nil); s.Endpoints[0].Labels["version"] != "v2" {
		t.Errorf("labels %v", s.Endpoints[0].Labels)
	}
}

// Slices come in the order of a map: it must not matter.
func TestOrderOfSlicesDoesNotMatter(t *testing.T) {
	var all []*discoveryv1.EndpointSlice
	for i := range 6 {
		family, prefix := discoveryv1.AddressTypeIPv4, "10.0.0."
		if i%2 == 1 {
			family, prefix = discoveryv1.AddressTypeIPv6, "fd00::"
		}
		var eps []discoveryv1.Endpoint
		for n := range 5 {
			eps = append(eps, pod(fmt.Sprint("p", (i+n)%7), prefix+fmt.Sprint(1+(i+n)%7), func(e *discoveryv1.Endpoint) { e.Conditions.Ready = new(n%2 == 0) }))
		}
		all = append(all, slice(fmt.Sprint("s", i), family, map[string]int32{"": 80}, eps...))
	}
	conf := Config{}.WithDefaults()
	first, _ := conf.convert(service(nil), all, nil)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if again, _ := conf.convert(service(nil), all, nil); !first.Equal(again) {
			t.Fatalf("%v\nand\n%v", first.Endpoints, again.Endpoints)
		}
	}
}
