package gcp_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

// realConfig names a configuration file of a real project, which gcloud can read
// with its own credentials.
const realConfig = "ISTHMUS_GCP_CONFIG"

// cli is the real gcloud.
type cli struct {
	t    *testing.T
	path string
	env  []string
}

// list runs gcloud and decodes what it prints.
func (c cli) list(into any, args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.path, append(args, "--format=json", "--quiet")...)
	cmd.Env = c.env
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		c.t.Fatalf("gcloud %v: %v\n%s", args, err, complaint.String())
	}
}

// What the source publishes is what Google's own client lists, of a real project or
// of the stand-in: then it is the stand-in that is judged.
func TestGcloudSeesTheSame(t *testing.T) {
	gcloud := cli{t: t, path: tools.External(t, "gcloud", "Google's command line, from https://cloud.google.com/sdk"), env: os.Environ()}
	var c gcp.Config
	if path := os.Getenv(realConfig); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = gcp.Parse(path, data); err != nil {
			t.Fatal(err)
		}
		t.Logf("figure: ran against the real projects %v, by %s", c.Projects, path)
	} else {
		t.Logf("figure: ran against a stand-in, checked by the discovery documents; against no real project: %s names no configuration", realConfig)
		s := gcptest.New(t)
		s.Set(plain())
		c = wholeConfig(s)
		c.Projects, c.ManagedGroups, c.ServiceDirectory = c.Projects[:1], c.ManagedGroups[:1], c.ServiceDirectory[:1]
		gcloud.env = append(gcloud.env,
			"CLOUDSDK_CONFIG="+t.TempDir(), "CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true", "CLOUDSDK_CORE_CHECK_GCE_METADATA=false",
			"CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=true", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=true",
			"CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE="+s.OpenURL+"/compute/v1/",
			"CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEDIRECTORY="+s.OpenURL+"/",
		)
	}
	f := follow(t, c)
	s := f.snapshot("the first set", func(*catalog.Snapshot) bool { return true })
	got := map[string]bool{}
	for svc := range s.All() {
		for _, e := range svc.Endpoints {
			id, _, _ := strings.Cut(e.ID, ":") // of its ports one
			got[id] = true
		}
	}
	want := gcloud.ids(c)
	if d := cmp.Diff(sorted(want), sorted(got)); d != "" {
		t.Errorf("-gcloud +source\n%s", d)
	}
	t.Logf("figure: gcloud lists %d endpoints, and the source publishes them", len(want))
}

func sorted(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// ids are the endpoints that gcloud finds for a configuration, as the source
// names them, without ports.
func (c cli) ids(config gcp.Config) map[string]bool {
	want := map[string]bool{}
	for _, project := range config.Projects {
		at := "--project=" + project
		machines := map[string]bool{} // zone/name
		var instances []struct {
			Name, Zone string
			Labels     map[string]string
		}
		c.list(&instances, "compute", "instances", "list", at)
		for _, i := range instances {
			key := last(i.Zone) + "/" + i.Name
			machines[key] = true
			if _, ok := i.Labels["isthmus-service"]; ok && config.Instances != nil {
				want[project+"/"+key] = true
			}
		}
		var groups []struct{ Name, Zone, Region string }
		if len(config.ManagedGroups) > 0 {
			c.list(&groups, "compute", "instance-groups", "managed", "list", at)
		}
		for _, g := range groups {
			if !slices.ContainsFunc(config.ManagedGroups, func(o gcp.Group) bool { return o.Name == g.Name }) {
				continue
			}
			var members []struct{ Instance string }
			c.list(&members, "compute", "instance-groups", "managed", "list-instances", g.Name, at, where(g.Zone, g.Region))
			for _, m := range members {
				parts := strings.Split(m.Instance, "/")
				if key := parts[len(parts)-3] + "/" + parts[len(parts)-1]; machines[key] {
					want[project+"/"+key] = true
				}
			}
		}
		c.endpointGroups(config, project, want)
		c.directories(config, project, want)
	}
	return want
}

func (c cli) endpointGroups(config gcp.Config, project string, want map[string]bool) {
	if len(config.EndpointGroups) == 0 {
		return
	}
	var groups []struct{ Name, Zone, Region string }
	c.list(&groups, "compute", "network-endpoint-groups", "list", "--project="+project)
	for _, g := range groups {
		if !slices.ContainsFunc(config.EndpointGroups, func(o gcp.Group) bool { return o.Name == g.Name }) {
			continue
		}
		var endpoints []struct {
			NetworkEndpoint struct{ IPAddress string }
		}
		c.list(&endpoints, "compute", "network-endpoint-groups", "list-network-endpoints", g.Name, "--project="+project, where(g.Zone, g.Region))
		for _, e := range endpoints {
			if ip := e.NetworkEndpoint.IPAddress; ip != "" {
				want[fmt.Sprintf("%s/%s/%s/%s", project, last(g.Zone+g.Region), g.Name, ip)] = true
			}
		}
	}
}

func (c cli) directories(config gcp.Config, project string, want map[string]bool) {
	for _, d := range config.ServiceDirectory {
		if len(d.Projects) > 0 && !slices.Contains(d.Projects, project) {
			continue
		}
		for _, location := range d.Locations {
			at := []string{"--project=" + project, "--location=" + location}
			namespaces := []struct{ Name string }{{d.Namespace}}
			if d.Namespace == "" {
				c.list(&namespaces, append([]string{"service-directory", "namespaces", "list"}, at...)...)
			}
			for _, n := range namespaces {
				in := append(slices.Clone(at), "--namespace="+last(n.Name))
				var services []struct{ Name string }
				c.list(&services, append([]string{"service-directory", "services", "list"}, in...)...)
				for _, s := range services {
					var endpoints []struct{ Name string }
					c.list(&endpoints, append([]string{"service-directory", "endpoints", "list", "--service=" + last(s.Name)}, in...)...)
					for _, e := range endpoints {
						want[strings.Join([]string{project, location, last(n.Name), last(s.Name), last(e.Name)}, "/")] = true
					}
				}
			}
		}
	}
}

func last(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

func where(zone, region string) string {
	if zone != "" {
		return "--zone=" + last(zone)
	}
	return "--region=" + last(region)
}

// plain is whole without what the source leaves out.
func plain() gcptest.World {
	w := whole()
	p := w[project]
	p.Instances = slices.DeleteFunc(p.Instances, func(i gcptest.Instance) bool { return strings.HasPrefix(i.Name, "bad-") || i.IP == "" })
	p.EndpointGroups = p.EndpointGroups[:1] // each costs a start of gcloud, which takes seconds
	p.EndpointGroups[0].Endpoints = slices.DeleteFunc(p.EndpointGroups[0].Endpoints, func(e gcptest.NetworkEndpoint) bool { return e.Port == 0 || e.IP == "" })
	prod := &p.Namespaces[0]
	prod.Services = prod.Services[:1]
	prod.Services[0].Endpoints = prod.Services[0].Endpoints[:2]
	return w
}
