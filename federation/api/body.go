package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// document of a rule: huma checks it against R's schema and keeps the bytes,
// decode turns them into R. Values such as patterns check themselves as they are
// decoded, and encoding/json does not say where a check failed; decode does.
type ruleBody[R any] struct{ raw []byte }

// UnmarshalJSON keeps the bytes.
func (b *ruleBody[R]) UnmarshalJSON(data []byte) error {
	b.raw = append([]byte(nil), data...)
	return nil
}

// Schema is R's.
func (b *ruleBody[R]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[R](), true, "")
}

// decode returns the rule, or every value that does not parse, as joined
// *catalog.FieldErrors.
func (b *ruleBody[R]) decode() (R, error) {
	var r R
	err := json.Unmarshal(b.raw, &r)
	if err == nil {
		return r, nil
	}
	var tree any
	if json.Unmarshal(b.raw, &tree) == nil {
		if found := unparsable(reflect.TypeFor[R](), tree, ""); len(found) > 0 {
			return r, joined(found)
		}
	}
	return r, &catalog.FieldError{Rule: err.Error()}
}

type joined []error

func (j joined) Error() string   { return fmt.Sprintf("%d values do not parse", len(j)) }
func (j joined) Unwrap() []error { return j }

// unparsable finds the strings in tree that the types below t do not accept.
func unparsable(t reflect.Type, tree any, field string) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if text, ok := tree.(string); ok {
		if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t)); ok {
			if err := u.UnmarshalText([]byte(text)); err != nil {
				return []error{&catalog.FieldError{Field: field, Value: text, Rule: err.Error()}}
			}
		}
		return nil
	}
	var found []error
	switch node := tree.(type) {
	case []any:
		if t.Kind() == reflect.Slice {
			for i, v := range node {
				found = append(found, unparsable(t.Elem(), v, field+"["+strconv.Itoa(i)+"]")...)
			}
		}
	case map[string]any:
		switch t.Kind() {
		case reflect.Map:
			for k, v := range node {
				if err := parseKey(t.Key(), k); err != nil {
					found = append(found, &catalog.FieldError{Field: below(field, k), Value: k, Rule: err.Error()})
				}
				found = append(found, unparsable(t.Elem(), v, below(field, k))...)
			}
		case reflect.Struct:
			for _, f := range reflect.VisibleFields(t) {
				name := jsonName(f)
				if v, ok := node[name]; ok && name != "" {
					found = append(found, unparsable(f.Type, v, below(field, name))...)
				}
			}
		default:
		}
	}
	return found
}

func parseKey(t reflect.Type, key string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t)); ok {
		return u.UnmarshalText([]byte(key))
	}
	return nil
}

func below(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}
