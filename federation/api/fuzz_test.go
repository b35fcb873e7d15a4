package api_test

import (
	"encoding/json"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

func FuzzCursor(f *testing.F) {
	f.Add("web.shop/http/1")
	f.Add("a00\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := api.DecodeCursor(s); err == nil && s != "" && api.EncodeCursor(key) != s {
			t.Errorf("cursor %q decodes to %q, which has another cursor", s, key)
		}
	})
}

// A body that does not decode is told by its fields, and one that does encodes
// to something that decodes to the same.
func FuzzRuleBody(f *testing.F) {
	f.Add([]byte(exportJSON))
	f.Add([]byte(`{"name":"a","services":["web","Web"],"callers":["x"],"action":"allow"}`))
	f.Add([]byte(`{"services":{"a":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := api.DecodeRule[resource.Intention](data)
		if err != nil {
			if len(api.FieldErrors(err)) == 0 {
				t.Errorf("%q: no field in %v", data, err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if _, err := api.DecodeRule[resource.Intention](again); err != nil {
			t.Errorf("%q became %q: %v", data, again, err)
		}
	})
}
