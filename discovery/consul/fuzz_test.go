package consul

import (
	"encoding/json"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// FuzzConvert: whatever an agent answers, what comes of it is a valid service or
// none, in any order of the instances, and none that takes mTLS is without the ID
// that it must prove.
func FuzzConvert(f *testing.F) {
	f.Add("web", []byte(`[{"Node":{"Node":"n1","Address":"10.0.0.1","Datacenter":"dc1"},"Service":{"ID":"web-1","Service":"web","Port":80,"Tags":["version=v1"],"Meta":{"protocol":"http"},"Weights":{"Passing":1,"Warning":1},"Connect":{"Native":true}},"Checks":[{"CheckID":"c","Status":"passing"}]}]`))
	f.Add("web", []byte(`[{"Node":{"Node":"n1","Address":"10.0.0.1"},"Service":{"ID":"web-1","Service":"web","Address":"127.0.0.1","Ports":[{"Name":"http","Port":80,"Default":true},{"Name":"admin","Port":81}]}},{"Node":{"Node":"n1","Address":"10.0.0.1"},"Service":{"Kind":"connect-proxy","ID":"p","Service":"web","Port":21000,"Proxy":{"DestinationServiceName":"web","DestinationServiceID":"web-1","Mode":"transparent","LocalServicePort":80}}}]`))
	f.Add("web", []byte(`[null,{},{"Node":null,"Service":{}},{"Node":{},"Service":null,"Checks":[null]}]`))
	f.Add("", []byte(`[{"Node":{"Node":"","Address":"fe80::1%eth0","Locality":{"Region":"x","Zone":"y"}},"Service":{"Port":70000,"Weights":{"Passing":-1}}}]`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		var entries []*api.ServiceEntry
		if json.Unmarshal(data, &entries) != nil {
			return
		}
		entries = clean(entries)
		for _, how := range []Connect{ConnectAuto, ConnectSidecar, ConnectPlain} {
			c := Config{Connect: how, LabelMeta: []string{"*"}, LabelTags: true, AddressTag: "wan"}.WithDefaults()
			a := around{view: view{View: agent.View{Datacenter: "dc1"}}, mesh: mesh{trustDomain}, sidecars: c.sidecarsOf(entries)[name]}
			s, _ := c.convert(name, entries, a)
			tr := newTriggers()
			tr.sawRead(name, entries)
			if s == nil {
				continue
			}
			if err := s.Validate(); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			for _, e := range s.Endpoints {
				if (e.Transport == catalog.MTLS) != (e.ServerID != "") || how == ConnectPlain && e.Transport != catalog.Plain && !saysSidecar(entries) {
					t.Fatalf("%s: %+v", how, e)
				}
			}
			turned := make([]*api.ServiceEntry, len(entries))
			for i, e := range entries {
				turned[len(entries)-1-i] = e
			}
			again, _ := c.convert(name, turned, a)
			if again == nil || len(again.Endpoints) != len(s.Endpoints) {
				t.Fatalf("%s: %v in one order, %v in the other", how, s, again)
			}
		}
	})
}

func saysSidecar(entries []*api.ServiceEntry) bool {
	for _, e := range entries {
		if e.Service.Meta[connectMeta] == string(ConnectSidecar) {
			return true
		}
	}
	return false
}
