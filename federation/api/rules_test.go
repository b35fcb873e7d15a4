package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

const exportJSON = `{"name":"shop","services":["web","*.shop"],"to":["west"]}`

func TestCreateReadReplaceDelete(t *testing.T) {
	s := newStand(t)
	made := s.ask(t, "POST", "/v1/exports", exportJSON)
	if made.status != http.StatusCreated || made.header.Get("Location") != "/v1/exports/shop" || made.header.Get("ETag") == "" {
		t.Fatalf("POST = %+v", made)
	}
	if !strings.Contains(made.body, `"web.default"`) || !strings.Contains(made.body, `"origin":"api"`) {
		t.Errorf("POST answers %s; want the canonical form and its origin", made.body)
	}
	got := s.ask(t, "GET", "/v1/exports/shop", "")
	if got.status != http.StatusOK || got.header.Get("ETag") != made.header.Get("ETag") || got.body != made.body {
		t.Fatalf("GET = %+v, POST answered %s", got, made.body)
	}
	if same := s.ask(t, "GET", "/v1/exports/shop", "", "If-None-Match: "+made.header.Get("ETag")); same.status != http.StatusNotModified || same.body != "" {
		t.Errorf("GET with If-None-Match = %+v, want 304 and no body", same)
	}
	// What was read can be sent back whole, with its origin and etag.
	put := s.ask(t, "PUT", "/v1/exports/shop", strings.Replace(got.body, "west", "north", 1), "If-Match: "+got.header.Get("ETag"))
	if put.status != http.StatusOK || put.header.Get("ETag") == got.header.Get("ETag") || !strings.Contains(put.body, "north") {
		t.Fatalf("PUT = %+v", put)
	}
	if del := s.ask(t, "DELETE", "/v1/exports/shop", "", "If-Match: "+put.header.Get("ETag")); del.status != http.StatusNoContent || del.body != "" {
		t.Fatalf("DELETE = %+v", del)
	}
	if gone := s.ask(t, "GET", "/v1/exports/shop", ""); gone.status != http.StatusNotFound {
		t.Fatalf("GET after DELETE = %+v", gone)
	}
}

// Every documented refusal, with its status and its code.
func TestRefusals(t *testing.T) {
	s := newStand(t)
	if made := s.ask(t, "POST", "/v1/exports", exportJSON); made.status != http.StatusCreated {
		t.Fatalf("POST = %+v", made)
	}
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     api.Code
	}{
		{name: "create what exists", method: "POST", path: "/v1/exports", body: exportJSON, status: 409, code: api.CodeExists},
		{name: "create what the file has", method: "POST", path: "/v1/exports", body: strings.Replace(exportJSON, "shop", "from-file", 1), status: 409, code: api.CodeConfigOwned},
		{name: "replace what the file has", method: "PUT", path: "/v1/exports/from-file", body: `{"name":"from-file","services":["web"],"to":["*"]}`, header: []string{"If-Match: *"}, status: 409, code: api.CodeConfigOwned},
		{name: "delete what the file has", method: "DELETE", path: "/v1/exports/from-file", status: 409, code: api.CodeConfigOwned},
		{name: "replace without If-Match", method: "PUT", path: "/v1/exports/shop", body: exportJSON, status: 428, code: api.CodeETagRequired},
		{name: "replace another version", method: "PUT", path: "/v1/exports/shop", body: exportJSON, header: []string{`If-Match: "999"`}, status: 412, code: api.CodeChanged},
		{name: "replace by a weak tag", method: "PUT", path: "/v1/exports/shop", body: exportJSON, header: []string{`If-Match: W/"1"`}, status: 412, code: api.CodeChanged},
		{name: "malformed If-Match", method: "PUT", path: "/v1/exports/shop", body: exportJSON, header: []string{`If-Match: 1`}, status: 422, code: api.CodeInvalid},
		{name: "replace nothing", method: "PUT", path: "/v1/exports/none", body: strings.Replace(exportJSON, "shop", "none", 1), header: []string{`If-Match: *`}, status: 404, code: api.CodeNotFound},
		{name: "delete another version", method: "DELETE", path: "/v1/exports/shop", header: []string{`If-Match: "999"`}, status: 412, code: api.CodeChanged},
		{name: "delete nothing", method: "DELETE", path: "/v1/exports/none", status: 404, code: api.CodeNotFound},
		{name: "get nothing", method: "GET", path: "/v1/exports/none", status: 404, code: api.CodeNotFound},
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404, code: api.CodeNotFound},
		{name: "double slash", method: "GET", path: "/v1//exports", status: 404, code: api.CodeNotFound},
		{name: "dots", method: "GET", path: "/v1/x/../exports", status: 404, code: api.CodeNotFound},
		{name: "encoded slash", method: "GET", path: "/v1%2fexports", status: 404, code: api.CodeNotFound},
		{name: "trailing slash", method: "GET", path: "/v1/exports/", status: 404, code: api.CodeNotFound},
		{name: "upper case", method: "GET", path: "/V1/exports", status: 404, code: api.CodeNotFound},
		{name: "wrong method", method: "PATCH", path: "/v1/exports/shop", status: 405, code: api.CodeMethod},
		{name: "wrong method of a list", method: "DELETE", path: "/v1/services", status: 405, code: api.CodeMethod},
		{name: "wrong media type", method: "POST", path: "/v1/exports", body: exportJSON, header: []string{"Content-Type: text/plain"}, status: 415, code: api.CodeMediaType},
		{name: "no JSON", method: "POST", path: "/v1/exports", body: `{"name":`, status: 400, code: api.CodeInvalid},
		{name: "no body", method: "POST", path: "/v1/exports", status: 400, code: api.CodeInvalid},
		{name: "large body", method: "POST", path: "/v1/exports", body: `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, code: api.CodeTooLarge},
		{name: "unknown parameter", method: "GET", path: "/v1/services?page=2", status: 422, code: api.CodeInvalid},
		{name: "limit too high", method: "GET", path: "/v1/services?limit=1001", status: 422, code: api.CodeInvalid},
		{name: "limit no number", method: "GET", path: "/v1/services?limit=all", status: 422, code: api.CodeInvalid},
		{name: "foreign cursor", method: "GET", path: "/v1/services?cursor=xyz", status: 422, code: api.CodeInvalid},
		{name: "since too old", method: "GET", path: "/v1/services?watch=true&since=1", status: 410, code: api.CodeExpired},
		{name: "release of no source", method: "POST", path: "/v1/sources/nomad/release", status: 404, code: api.CodeNotFound},
		{name: "explain nothing", method: "GET", path: "/v1/explain", status: 422, code: api.CodeInvalid},
		{name: "explain a bad name", method: "GET", path: "/v1/explain?service=Web", status: 422, code: api.CodeInvalid},
		{name: "endpoints of a bad name", method: "GET", path: "/v1/endpoints?service=a.b.c", status: 422, code: api.CodeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.ask(t, c.method, c.path, c.body, c.header...)
			p := got.problem(t)
			if got.status != c.status || p.Type != resource.ProblemPrefix+string(c.code) {
				t.Errorf("%s %s = %d %s, want %d %s: %s", c.method, c.path, got.status, p.Type, c.status, c.code, got.body)
			}
			if c.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
}

// A problem names every field that is wrong, its value and the rule.
func TestProblemsNameFieldValueAndRule(t *testing.T) {
	s := newStand(t)
	for _, c := range []struct{ name, kind, body, location, value, rule string }{
		{"schema", "exports", `{"name":"a","services":["web"],"to":["west"],"colour":"red"}`, "body.colour", "", "unexpected property"},
		{"missing", "exports", `{"name":"a","services":["web"]}`, "body", "", "to"},
		{"type", "exports", `{"name":7,"services":["web"],"to":["west"]}`, "body.name", "7", "string"},
		{"pattern", "exports", `{"name":"a","services":["web","Web"],"to":["west"]}`, "body.services[1]", `"Web"`, "DNS label"},
		{"second pattern", "exports", `{"name":"a","services":["x.y.z","Web"],"to":["west"]}`, "body.services[1]", `"Web"`, "DNS label"},
		{"rule", "exports", `{"name":"a","services":["web"],"to":["*","west"]}`, "body.to[0]", `"*"`, "must stand alone"},
		{"identity", "intentions", `{"name":"a","services":["web"],"callers":["nobody"],"action":"allow"}`, "body.callers[0]", `"nobody"`, "SPIFFE ID"},
		{"action", "intentions", `{"name":"a","services":["web"],"callers":["spiffe://td/a"],"action":"permit"}`, "body.action", `"permit"`, "allow"},
		{"name in the path", "imports", `{"name":"Bad","from":"west","services":["web"]}`, "body.name", `"Bad"`, "DNS label"},
		{"map key", "traffic-policies", `{"name":"a","services":["web"],"weights":{"West":1}}`, "body.weights.West", `"West"`, "DNS label"},
		{"nested", "traffic-policies", `{"name":"a","services":["web"],"health_check":{"type":"ping"}}`, "body.health_check.type", `"ping"`, "tcp, http"},
		{"pointer", "imports", `{"name":"a","from":"west","services":["web"],"as":"x.y.z"}`, "body.as", `"x.y.z"`, "DNS label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.ask(t, "POST", "/v1/"+c.kind, c.body)
			p := got.problem(t)
			if got.status != http.StatusUnprocessableEntity {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			for _, f := range p.Errors {
				if f.Location == c.location && strings.Contains(f.Message, c.rule) && (c.value == "" || string(f.Value) == c.value) {
					return
				}
			}
			t.Errorf("no error at %s with value %s and rule %q in %s", c.location, c.value, c.rule, got.body)
		})
	}
}

func TestDryRunAnswersWhatWouldBeStored(t *testing.T) {
	s := newStand(t)
	got := s.ask(t, "POST", "/v1/exports?dry_run=true", exportJSON)
	if got.status != http.StatusOK || !strings.Contains(got.body, `"item":{"name":"shop","services":["web.default"`) ||
		!strings.Contains(got.body, `"would":{"services_total":2`) || got.header.Get("Location") != "" {
		t.Fatalf("POST dry run = %+v", got)
	}
	if got := s.ask(t, "GET", "/v1/exports/shop", ""); got.status != http.StatusNotFound {
		t.Fatalf("a dry run stored: %+v", got)
	}
	if bad := s.ask(t, "POST", "/v1/exports?dry_run=true", `{"name":"a","services":[],"to":["west"]}`); bad.status != http.StatusUnprocessableEntity {
		t.Errorf("a dry run accepted a rule without services: %+v", bad)
	}
	made := s.ask(t, "POST", "/v1/exports", exportJSON)
	if del := s.ask(t, "DELETE", "/v1/exports/shop?dry_run=true", ""); del.status != http.StatusOK || !strings.Contains(del.body, `{"would":{"services_total":1`) || strings.Contains(del.body, `"item"`) {
		t.Errorf("DELETE dry run = %+v", del)
	}
	if got := s.ask(t, "GET", "/v1/exports/shop", ""); got.body != made.body {
		t.Errorf("a dry run deleted: %+v", got)
	}
}

// The same four kinds through the typed client, over both ways.
func TestClientWrites(t *testing.T) {
	s := newStand(t)
	for way, c := range map[string]*client.Client{"socket": s.socketed, "tcp": s.tcp} {
		writes(t, way+"-export", c.Exports(), resource.Export{Export: policy.Export{Name: way, Services: []policy.ServicePattern{"web.default"}, To: []string{"west"}}})
		writes(t, way+"-import", c.Imports(), resource.Import{Import: policy.Import{Name: way, From: "west", Services: []policy.ServicePattern{"*"}}})
		writes(t, way+"-intention", c.Intentions(), resource.Intention{Intention: policy.Intention{Name: way, Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://td/*"}, Action: policy.Deny}})
		writes(t, way+"-traffic", c.TrafficPolicies(), resource.TrafficPolicy{Traffic: policy.Traffic{Name: way, Services: []policy.ServicePattern{"*"}, Pin: "west"}})
	}
}

func writes[T any](t *testing.T, name string, rules client.Rules[T], rule T) {
	t.Helper()
	way, _, _ := strings.Cut(name, "-")
	t.Run(name, func(t *testing.T) {
		ctx := t.Context()
		if _, err := rules.Create(ctx, rule, true); err != nil {
			t.Fatalf("Create dry run: %v", err)
		}
		if _, err := rules.Create(ctx, rule, false); err != nil {
			t.Fatalf("Create: %v", err)
		}
		_, err := rules.Create(ctx, rule, false)
		var se *client.StatusError
		if !errors.As(err, &se) || se.Code() != string(api.CodeExists) {
			t.Fatalf("Create again = %v, want %s", err, api.CodeExists)
		}
		got, err := rules.Get(ctx, way)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rules.Replace(ctx, way, got, "*", false); err != nil {
			t.Fatalf("Replace: %v", err)
		}
		if err := rules.Delete(ctx, way, `"0"`, false); !errors.As(err, &se) || se.Code() != string(api.CodeChanged) {
			t.Fatalf("Delete of another version = %v", err)
		}
		if err := rules.Delete(ctx, way, "", false); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	})
}

// A store that takes no writes refuses them and goes on answering reads.
func TestStoreThatTakesNoWrites(t *testing.T) {
	s := newStand(t)
	if made := s.ask(t, "POST", "/v1/exports", exportJSON); made.status != http.StatusCreated {
		t.Fatal(made)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.ask(t, "POST", "/v1/exports", strings.Replace(exportJSON, "shop", "two", 1)); got.status < 500 {
		t.Errorf("POST = %+v, want a server error", got)
	}
	if got := s.ask(t, "GET", "/v1/exports/shop", ""); got.status != http.StatusOK {
		t.Errorf("GET = %+v", got)
	}
}
