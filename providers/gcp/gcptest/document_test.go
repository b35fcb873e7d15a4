package gcptest_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

// What is planted here must be found, or the stand-in may say anything.
func TestDocumentFindsWhatIsNotPublished(t *testing.T) {
	docs, err := gcptest.Documents()
	if err != nil {
		t.Fatal(err)
	}
	compute, directory := docs["compute"], docs["servicedirectory"]
	t.Logf("figure: checked against the discovery documents of compute v1, revision %s (%d methods), and servicedirectory v1, revision %s",
		compute.Revision, len(compute.IDs()), directory.Revision)
	const (
		instances = "/compute/v1/projects/shop-prod/aggregated/instances"
		members   = "/compute/v1/projects/shop-prod/zones/us-central1-a/instanceGroupManagers/web/listManagedInstances"
		neg       = "/compute/v1/projects/shop-prod/zones/us-central1-a/networkEndpointGroups/web/listNetworkEndpoints"
		services  = "/v1/projects/shop-prod/locations/us-central1/namespaces/prod/services"
	)
	for _, c := range []struct {
		name                     string
		document                 *gcptest.Document
		verb, path, query, asked string
		answered                 string
		want                     string // "" is: nothing is wrong
	}{
		{name: "a good list", document: compute, verb: "GET", path: instances, query: "maxResults=500&filter=labels.a:*", answered: `{"kind":"x","items":{"zones/z":{"instances":[{"id":"1","name":"a","labels":{"a":"b"}}]}}}`},
		{name: "an unknown parameter", document: compute, verb: "GET", path: instances, query: "pageSize=5", want: "query.pageSize: is no parameter"},
		{name: "a parameter of the wrong type", document: compute, verb: "GET", path: instances, query: "maxResults=many", want: "query.maxResults: must be a whole number"},
		{name: "a negative number for uint32", document: compute, verb: "GET", path: instances, query: "maxResults=-1", want: "uint32"},
		{name: "a number beyond uint32", document: compute, verb: "GET", path: instances, query: "maxResults=4294967296", want: "uint32"},
		{name: "a boolean that is none", document: compute, verb: "GET", path: instances, query: "includeAllScopes=yes", want: "must be true or false"},
		{name: "a parameter given twice", document: compute, verb: "GET", path: instances, query: "filter=a&filter=b", want: "more than once"},
		{name: "an unknown field", document: compute, verb: "GET", path: instances, answered: `{"itemz":{}}`, want: "body.itemz: is no field there"},
		{name: "an unknown field far below", document: compute, verb: "GET", path: instances, answered: `{"items":{"zones/z":{"instances":[{"networkInterfaces":[{"networkIp":"10.0.0.1"}]}]}}}`, want: "networkInterfaces[0].networkIp: is no field there"},
		{name: "a wrong type", document: compute, verb: "GET", path: instances, answered: `{"items":{"zones/z":{"instances":[{"name":7}]}}}`, want: "name: must be a string"},
		{name: "a list for an object", document: compute, verb: "GET", path: instances, answered: `{"items":[]}`, want: "body.items: must be an object"},
		{name: "an id as a number", document: compute, verb: "GET", path: instances, answered: `{"items":{"zones/z":{"instances":[{"id":1}]}}}`, want: "id: must be a string"},
		{name: "an id that is no number", document: compute, verb: "GET", path: instances, answered: `{"items":{"zones/z":{"instances":[{"id":"x"}]}}}`, want: "uint64"},
		{name: "a bad enum", document: compute, verb: "GET", path: instances, answered: `{"items":{"zones/z":{"instances":[{"status":"running"}]}}}`, want: "status: must be one of"},
		{name: "a null", document: compute, verb: "GET", path: instances, answered: `{"items":null}`, want: "must be an object"},
		{name: "half a document", document: compute, verb: "GET", path: instances, answered: `{"items":{`, want: "is not JSON"},
		{name: "two documents", document: compute, verb: "GET", path: instances, answered: `{}{}`, want: "after its end"},
		{name: "a body where none is", document: compute, verb: "POST", path: members, asked: `{}`, want: "body: must be empty"},
		{name: "a good body", document: compute, verb: "POST", path: neg, asked: `{"healthStatus":"SHOW"}`},
		{name: "a bad enum in a body", document: compute, verb: "POST", path: neg, asked: `{"healthStatus":"PLEASE"}`, want: "healthStatus: must be one of"},
		{name: "a body in the wrong place", document: compute, verb: "POST", path: neg, asked: `{"resource":{"healthStatus":"SHOW"}}`, want: "body.resource: is no field there"},
		{name: "a port out of range", document: compute, verb: "POST", path: neg, asked: `{}`, answered: `{"items":[{"networkEndpoint":{"port":2147483648}}]}`, want: "int32"},
		{name: "a good directory", document: directory, verb: "GET", path: services, query: "pageSize=5&%24alt=json", answered: `{"services":[{"name":"x","annotations":{"a":"b"}}]}`},
		{name: "an unknown parameter of the directory", document: directory, verb: "GET", path: services, query: "maxResults=5", want: "is no parameter"},
		{name: "an annotation that is no string", document: directory, verb: "GET", path: services, answered: `{"services":[{"annotations":{"a":1}}]}`, want: "annotations.a: must be a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, path := c.document.Match(c.verb, c.path)
			if m == nil {
				t.Fatalf("%s %s matches no method", c.verb, c.path)
			}
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			if c.asked == "" && m.Verb == "POST" && strings.HasSuffix(c.path, "Endpoints") {
				c.asked = "{}"
			}
			err = c.document.CheckRequest(m, path, query, []byte(c.asked))
			if err == nil && c.answered != "" {
				err = c.document.CheckResponse(m, []byte(c.answered))
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("finds fault with what is published: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	for _, path := range []string{
		"/compute/v1/projects/a/b/aggregated/instances", "/compute/v2/projects/a/aggregated/instances", "/v1/projects/a/namespaces",
	} {
		if m, _ := compute.Match("GET", path); m != nil {
			t.Errorf("%s matches %s", path, m.ID)
		}
	}
	if m, _ := compute.Match("POST", instances); m != nil {
		t.Errorf("a POST matches %s", m.ID)
	}
}
