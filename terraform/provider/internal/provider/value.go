package provider

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// toJSON is what Terraform holds, as the federation's JSON; null is left out. rename
// gives the JSON name of an attribute.
func toJSON(v tftypes.Value, path string, rename func(path, name string) string) (any, error) {
	if v.IsNull() {
		return nil, nil //nolint:nilnil // JSON's null
	}
	if !v.IsKnown() {
		return nil, fmt.Errorf("%s is not known yet", path)
	}
	switch t := v.Type(); {
	case t.Is(tftypes.String):
		var s string
		err := v.As(&s)
		return s, err
	case t.Is(tftypes.Bool):
		var b bool
		err := v.As(&b)
		return b, err
	case t.Is(tftypes.Number):
		var n big.Float
		if err := v.As(&n); err != nil {
			return nil, err
		}
		return json.Number(n.Text('f', -1)), nil
	case t.Is(tftypes.List{}):
		var items []tftypes.Value
		if err := v.As(&items); err != nil {
			return nil, err
		}
		out := make([]any, len(items))
		for i, item := range items {
			var err error
			if out[i], err = toJSON(item, path, rename); err != nil {
				return nil, err
			}
		}
		return out, nil
	default: // an object or a map
		var items map[string]tftypes.Value
		if err := v.As(&items); err != nil {
			return nil, err
		}
		out := map[string]any{}
		for name, item := range items {
			if t.Is(tftypes.Object{}) {
				name = rename(path, name)
			}
			x, err := toJSON(item, strings.TrimPrefix(path+"."+name, "."), rename)
			if err != nil {
				return nil, err
			}
			if x != nil {
				out[name] = x
			}
		}
		return out, nil
	}
}

// fromJSON is the federation's JSON as a value of a type. prior is what Terraform had:
// JSON leaves out what is zero, so a zero that was written stays as it was written, and
// so does what was left out.
func fromJSON(x any, t tftypes.Type, prior tftypes.Value, path string, rename func(path, name string) string) (tftypes.Value, error) {
	if x == nil {
		return absent(t, prior), nil
	}
	wrong := func() (tftypes.Value, error) {
		return tftypes.Value{}, fmt.Errorf("%s: the federation answers %v, which is no %s", path, x, t)
	}
	switch {
	case t.Is(tftypes.String):
		if s, ok := x.(string); ok {
			return tftypes.NewValue(t, s), nil
		}
		return wrong()
	case t.Is(tftypes.Bool):
		if b, ok := x.(bool); ok {
			return tftypes.NewValue(t, b), nil
		}
		return wrong()
	case t.Is(tftypes.Number):
		n, ok := x.(json.Number)
		if !ok {
			return wrong()
		}
		f, ok := new(big.Float).SetString(n.String())
		if !ok {
			return wrong()
		}
		return tftypes.NewValue(t, f), nil
	}
	switch t := t.(type) {
	case tftypes.List:
		items, ok := x.([]any)
		if !ok {
			return wrong()
		}
		if len(items) == 0 {
			return absent(t, prior), nil
		}
		before := list(prior)
		out := make([]tftypes.Value, len(items))
		for i, item := range items {
			var was tftypes.Value
			if i < len(before) {
				was = before[i]
			}
			var err error
			if out[i], err = fromJSON(item, t.ElementType, was, path, rename); err != nil {
				return tftypes.Value{}, err
			}
		}
		return tftypes.NewValue(t, out), nil
	case tftypes.Map:
		items, ok := x.(map[string]any)
		if !ok {
			return wrong()
		}
		out := map[string]tftypes.Value{}
		for name, item := range items {
			var err error
			if out[name], err = fromJSON(item, t.ElementType, tftypes.Value{}, path+"."+name, rename); err != nil {
				return tftypes.Value{}, err
			}
		}
		return tftypes.NewValue(t, out), nil
	case tftypes.Object:
		items, ok := x.(map[string]any)
		if !ok {
			return wrong()
		}
		return objectFrom(items, t, prior, path, rename)
	default:
		return wrong()
	}
}

func objectFrom(items map[string]any, t tftypes.Object, prior tftypes.Value, path string, rename func(path, name string) string) (tftypes.Value, error) {
	before := fields(prior)
	out := map[string]tftypes.Value{}
	for name, of := range t.AttributeTypes {
		field := rename(path, name)
		was, ok := before[name]
		if !ok {
			was = tftypes.NewValue(of, nil)
		}
		var err error
		if out[name], err = fromJSON(items[field], of, was, strings.TrimPrefix(path+"."+field, "."), rename); err != nil {
			return tftypes.Value{}, err
		}
	}
	return tftypes.NewValue(t, out), nil
}

// absent is what stands for a field that JSON leaves out: what was written, if that is
// zero, else null.
func absent(t tftypes.Type, prior tftypes.Value) tftypes.Value {
	if prior.Type() != nil && prior.IsFullyKnown() && !prior.IsNull() && zero(prior) {
		return prior
	}
	return tftypes.NewValue(t, nil)
}

// zero reports what JSON's omitempty and omitzero leave out.
func zero(v tftypes.Value) bool {
	var s string
	var b bool
	var n big.Float
	switch t := v.Type(); {
	case v.IsNull():
		return true
	case t.Is(tftypes.String):
		return v.As(&s) == nil && s == ""
	case t.Is(tftypes.Bool):
		return v.As(&b) == nil && !b
	case t.Is(tftypes.Number):
		return v.As(&n) == nil && n.Sign() == 0
	case t.Is(tftypes.Object{}):
		for _, f := range fields(v) {
			if !zero(f) {
				return false
			}
		}
		return true
	case t.Is(tftypes.Map{}):
		return len(fields(v)) == 0
	default:
		return len(list(v)) == 0
	}
}

// fields and list are the parts of a value, none where it has none.
func fields(v tftypes.Value) map[string]tftypes.Value {
	var out map[string]tftypes.Value
	if v.Type() == nil || v.IsNull() || !v.IsKnown() || v.As(&out) != nil {
		return nil
	}
	return out
}

func list(v tftypes.Value) []tftypes.Value {
	var out []tftypes.Value
	if v.Type() == nil || v.IsNull() || !v.IsKnown() || v.As(&out) != nil {
		return nil
	}
	return out
}
