package gcptest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Document is a published discovery document.
type Document struct {
	Revision string
	schemas  map[string]*schema
	globals  map[string]*schema
	methods  []*Method
}

// Method is one method of it.
type Method struct {
	// ID is such as "compute.instances.aggregatedList".
	ID string
	// Verb is the HTTP method.
	Verb string

	path              *regexp.Regexp
	parameters        map[string]*schema
	request, response *schema
}

// documentJSON is the document as it is written.
type documentJSON struct {
	Revision    string             `json:"revision"`
	ServicePath string             `json:"servicePath"`
	Parameters  map[string]*schema `json:"parameters"`
	Schemas     map[string]*schema `json:"schemas"`
	Resources   map[string]*resourceJSON
}

type resourceJSON struct {
	Methods   map[string]*methodJSON
	Resources map[string]*resourceJSON
}

type methodJSON struct {
	ID         string             `json:"id"`
	HTTPMethod string             `json:"httpMethod"`
	Path       string             `json:"path"`
	FlatPath   string             `json:"flatPath"`
	Parameters map[string]*schema `json:"parameters"`
	Request    *schema            `json:"request"`
	Response   *schema            `json:"response"`
}

// ParseDocument reads a discovery document.
func ParseDocument(data []byte) (*Document, error) {
	var in documentJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	d := &Document{Revision: in.Revision, schemas: in.Schemas, globals: in.Parameters}
	var walk func(resources map[string]*resourceJSON) error
	walk = func(resources map[string]*resourceJSON) error {
		for _, r := range resources {
			for _, m := range r.Methods {
				path, err := compilePath(in.ServicePath, m)
				if err != nil {
					return err
				}
				d.methods = append(d.methods, &Method{
					ID: m.ID, Verb: m.HTTPMethod, path: path, parameters: m.Parameters, request: m.Request, response: m.Response,
				})
			}
			if err := walk(r.Resources); err != nil {
				return err
			}
		}
		return nil
	}
	err := walk(in.Resources)
	return d, err
}

var placeholder = regexp.MustCompile(`\\\{(\w+)\\\}`)

func compilePath(service string, m *methodJSON) (*regexp.Regexp, error) {
	path := m.FlatPath
	if path == "" {
		path = m.Path
	}
	return regexp.Compile("^/" + placeholder.ReplaceAllString(regexp.QuoteMeta(service+path), "(?P<$1>[^/]+)") + "$")
}

// systemParameters are Google's for every API; documents leave them out.
var systemParameters = map[string]*schema{
	"$alt": {Type: "string", Enum: []string{"json", "json;enum-encoding=int"}},
}

// documents are where the module keeps them.
var documents = map[string]string{
	"compute":          "compute/v1/compute-api.json",
	"servicedirectory": "servicedirectory/v1/servicedirectory-api.json",
}

// load finds the documents in the module that go.mod pins.
var load = sync.OnceValues(func() (map[string]*Document, error) {
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		return nil, fmt.Errorf("find google.golang.org/api: %w", err)
	}
	docs := map[string]*Document{}
	for name, path := range documents {
		data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		if docs[name], err = ParseDocument(data); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return docs, nil
})

// Documents are the published ones, by the API's name.
func Documents() (map[string]*Document, error) { return load() }

// Match finds the method of a request, with what its path says.
func (d *Document) Match(verb, path string) (*Method, map[string]string) {
	for _, m := range d.methods {
		if m.Verb != verb {
			continue
		}
		found := m.path.FindStringSubmatch(path)
		if found == nil {
			continue
		}
		values := map[string]string{}
		for i, name := range m.path.SubexpNames() {
			if name != "" {
				values[name] = found[i]
			}
		}
		return m, values
	}
	return nil, nil
}

// CheckRequest reports everything about a request that the document does not
// know.
func (d *Document) CheckRequest(m *Method, path map[string]string, query url.Values, body []byte) error {
	c := &checker{document: d}
	for name, value := range path {
		if s, ok := m.parameters[name]; ok { // flat paths have names of their own
			c.text("path."+name, value, s)
		}
	}
	for name, values := range query {
		s, ok := m.parameters[name]
		if !ok || s.Location != "query" {
			s, ok = d.globals[name]
		}
		if !ok {
			s, ok = systemParameters[name]
		}
		switch {
		case !ok:
			c.fail("query."+name, "is no parameter of "+m.ID)
		case len(values) > 1 && !s.Repeated:
			c.fail("query."+name, "is given more than once")
		default:
			for _, v := range values {
				c.text("query."+name, v, s)
			}
		}
	}
	for name, s := range m.parameters {
		if s.Required && s.Location == "query" && !query.Has(name) {
			c.fail("query."+name, "is required")
		}
	}
	c.body(body, m.request)
	return c.err()
}

// CheckResponse reports everything of a successful answer that the document does
// not know.
func (d *Document) CheckResponse(m *Method, body []byte) error {
	c := &checker{document: d}
	c.body(body, m.response)
	return c.err()
}

// IDs are the ids of all methods, in order.
func (d *Document) IDs() []string {
	var ids []string
	for _, m := range d.methods {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}
