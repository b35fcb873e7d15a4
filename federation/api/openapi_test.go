package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract is the served OpenAPI document, and JSON Schema 2020-12's word on what
// goes over the wire.
type contract struct {
	t        *testing.T
	doc      map[string]any
	compiler *jsonschema.Compiler
}

func newContract(t *testing.T, s *stand) *contract {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(s.ask(t, "GET", "/openapi.json", "").body))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{t: t, doc: doc.(map[string]any), compiler: jsonschema.NewCompiler()}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := c.compiler.AddResource("https://isthmus.test/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// at walks into the document.
func (c *contract) at(path ...string) map[string]any {
	node := c.doc
	for _, p := range path {
		next, _ := node[p].(map[string]any)
		if next == nil {
			return nil
		}
		node = next
	}
	return node
}

// check validates JSON by the schema at a place of the document.
func (c *contract) check(what, data string, path ...string) {
	c.t.Helper()
	for i, p := range path {
		path[i] = strings.NewReplacer("~", "~0", "/", "~1").Replace(p)
	}
	schema, err := c.compiler.Compile("https://isthmus.test/openapi.json#/" + strings.Join(path, "/"))
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		c.t.Errorf("%s: %v\nin %s", what, err, data)
	}
}

// answer checks that the status is documented, and the body by its schema.
func (c *contract) answer(op api.Operation, got reply) {
	c.t.Helper()
	what := fmt.Sprintf("%s answers %d", op.ID, got.status)
	method, status := strings.ToLower(op.Method), fmt.Sprint(got.status)
	response := c.at("paths", op.Path, method, "responses", status)
	if response == nil {
		c.t.Errorf("%s, which is not documented: %s", what, got.body)
		return
	}
	content, _ := response["content"].(map[string]any)
	if got.body == "" {
		if content != nil && got.status != http.StatusNotModified {
			c.t.Errorf("%s without the body that is documented", what)
		}
		return
	}
	kind, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	if content[kind] == nil {
		c.t.Errorf("%s of type %q, which is not documented", what, kind)
		return
	}
	c.check(what, got.body, "paths", op.Path, method, "responses", status, "content", kind, "schema")
}

// example is the request that the document gives for an operation.
func (c *contract) example(op api.Operation) (path, body string, header []string) {
	c.t.Helper()
	o := c.at("paths", op.Path, strings.ToLower(op.Method))
	path = op.Path
	query := url.Values{}
	parameters, _ := o["parameters"].([]any)
	for _, p := range parameters {
		p := p.(map[string]any)
		value, _ := p["example"].(string)
		name := p["name"].(string)
		switch {
		case p["in"] == "path":
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		case p["in"] == "query" && value != "":
			query.Set(name, value)
		case p["in"] == "header" && value != "":
			header = append(header, name+": "+value)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if content := c.at("paths", op.Path, strings.ToLower(op.Method), "requestBody", "content", "application/json"); content != nil {
		data, err := json.Marshal(content["example"])
		if err != nil || content["example"] == nil {
			c.t.Errorf("%s has no example of its body: %v", op.ID, err)
		}
		body = string(data)
		c.check(op.ID+"'s example", body, "paths", op.Path, strings.ToLower(op.Method), "requestBody", "content", "application/json", "schema")
	}
	return path, body, header
}

// Every operation's example runs, what it sends and what it is answered are what
// the document says: as it is, as a dry run, and refused.
func TestEveryExampleRunsAsDocumented(t *testing.T) {
	t.Parallel()
	s := newStand(t, withRoles(&issuer{}), func(o *api.Options) { o.Peering, o.Auth.TokenRole = noPeering{}, "admin" })
	s.fill(t)
	c := newContract(t, s)
	ops := s.server.Operations()
	order := map[string]int{"POST": 0, "GET": 1, "PUT": 2, "DELETE": 3}
	slices.SortStableFunc(ops, func(a, b api.Operation) int {
		// What is brought back from the history was there to be changed first.
		return cmp.Or(cmp.Compare(strings.Count(a.ID, "revert"), strings.Count(b.ID, "revert")), cmp.Compare(order[a.Method], order[b.Method]))
	})
	ran := 0
	for _, op := range ops {
		path, body, header := c.example(op)
		if strings.HasPrefix(op.Path, "/v1/peering/") {
			continue // runs against two real clusters, in package federation
		}
		ran++
		if strings.Contains(fmt.Sprint(c.at("paths", op.Path, strings.ToLower(op.Method))["parameters"]), "dry_run") {
			join := "?"
			if strings.Contains(path, "?") {
				join = "&"
			}
			got := s.ask(t, op.Method, path+join+"dry_run=true", body, header...)
			c.answer(op, got)
			if got.status != http.StatusOK {
				t.Errorf("%s, dry: %d %s", op.ID, got.status, got.body)
			}
		}
		got := s.ask(t, op.Method, path, body, header...)
		c.answer(op, got)
		if got.status > 299 {
			t.Errorf("%s %s = %d %s", op.Method, path, got.status, got.body)
		}
		// Refusals are documented for every operation.
		for _, more := range [][]string{
			{"Authorization: "},
			{"Authorization: Bearer eve:nobody"},
			{"Host: evil.example"},
			{"Sec-Fetch-Site: cross-site"},
		} {
			c.answer(op, s.ask(t, op.Method, path, body, append(slices.Clone(header), more...)...))
		}
		if body != "" {
			c.answer(op, s.ask(t, op.Method, path, `{"name":`, header...))
			c.answer(op, s.ask(t, op.Method, path, `{"name":7,"colour":"red"}`, header...))
			c.answer(op, s.ask(t, op.Method, path, body, append(slices.Clone(header), "Content-Type: text/plain")...))
			c.answer(op, s.ask(t, op.Method, path, `{"name":"`+strings.Repeat("x", 1<<20)+`"}`, header...))
		}
		c.answer(op, s.ask(t, op.Method, path+map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")]+"colour=red", body, header...))
	}
	t.Logf("figure: %d operations ran as their examples, of %d documented", ran, len(ops))
}
