package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func same(_, name string) string { return name }

func TestValuesSurviveTheFederation(t *testing.T) {
	text, list, numbers := tftypes.String, tftypes.List{ElementType: tftypes.String}, tftypes.Map{ElementType: tftypes.Number}
	inner := tftypes.Object{AttributeTypes: map[string]tftypes.Type{"on": tftypes.Bool, "n": tftypes.Number}}
	object := tftypes.Object{AttributeTypes: map[string]tftypes.Type{"a": text, "l": list, "m": numbers, "o": inner}}
	value := func(a, l, m, o any) tftypes.Value {
		return tftypes.NewValue(object, map[string]tftypes.Value{
			"a": tftypes.NewValue(text, a), "l": tftypes.NewValue(list, l), "m": tftypes.NewValue(numbers, m), "o": tftypes.NewValue(inner, o),
		})
	}
	s := func(x string) tftypes.Value { return tftypes.NewValue(text, x) }
	n := func(x int64) tftypes.Value { return tftypes.NewValue(tftypes.Number, x) }
	on := func(b any, x any) map[string]tftypes.Value {
		return map[string]tftypes.Value{"on": tftypes.NewValue(tftypes.Bool, b), "n": tftypes.NewValue(tftypes.Number, x)}
	}
	for name, c := range map[string]struct {
		value  tftypes.Value
		answer string // what the federation keeps of it: zeros are left out
	}{
		"all":               {value("x", []tftypes.Value{s("p"), s("q")}, map[string]tftypes.Value{"k": n(7)}, on(true, int64(1)<<53+1)), `{"a":"x","l":["p","q"],"m":{"k":7},"o":{"on":true,"n":9007199254740993}}`},
		"nothing":           {value(nil, nil, nil, nil), `{}`},
		"zeros as written":  {value("", []tftypes.Value{}, map[string]tftypes.Value{}, on(false, int64(0))), `{}`},
		"zeros in a part":   {value("x", nil, map[string]tftypes.Value{"k": n(0)}, on(true, int64(0))), `{"a":"x","m":{"k":0},"o":{"on":true}}`},
		"an empty list":     {value("x", nil, nil, nil), `{"a":"x","l":[]}`},
		"a field of theirs": {value("x", nil, nil, nil), `{"a":"x","origin":"api"}`},
	} {
		doc, err := decode(raw(c.answer))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := toJSON(c.value, "", same); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := fromJSON(doc, object, c.value, "", same)
		if err != nil || !got.Equal(c.value) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.value)
		}
	}
	for name, answer := range map[string]string{"a number for a text": `{"a":7}`, "a text for a list": `{"l":"x"}`, "a list for a map": `{"m":[]}`, "a text for a number": `{"o":{"n":"x"}}`} {
		doc, err := decode(raw(answer))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fromJSON(doc, object, value(nil, nil, nil, nil), "", same); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
	unknown := tftypes.NewValue(text, tftypes.UnknownValue)
	if x, err := toJSON(unknown, "a", same); err == nil {
		t.Errorf("an unknown value is %v, want an error", x)
	}
}

func TestRenamedAttributesKeepTheirFields(t *testing.T) {
	r := rule[policy.Peer]{kind: kind[policy.Peer]{renamed: map[string]string{"id": "spiffe_id", "a.b": "c"}}}
	for _, c := range []struct{ within, attribute, field string }{
		{"", "spiffe_id", "id"}, {"", "name", "name"}, {"bundle.endpoint", "spiffe_id", "spiffe_id"}, {"a", "c", "b"}, {"", "c", "c"},
	} {
		if got := r.field(c.within, c.attribute); got != c.field {
			t.Errorf("the field of %s in %q is %s, want %s", c.attribute, c.within, got, c.field)
		}
	}
}
