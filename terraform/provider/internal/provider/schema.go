package provider

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// etag is the attribute that holds the version of a rule.
const etag = "etag"

// schemaOf makes the schema of a kind from its rule's Go type.
func (k *kind[T]) schemaOf() schema.Schema {
	attributes := k.attributes(reflect.TypeFor[T](), "")
	attributes["name"] = schema.StringAttribute{
		Required: true, Description: describe(k.name, "name"),
		PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
	}
	attributes[etag] = schema.StringAttribute{Computed: true, Description: "Version of the rule: what somebody else has changed since is not overwritten."}
	return schema.Schema{Description: k.description, Attributes: attributes}
}

// attributes are the fields of a struct, by their names in JSON. Those that JSON may
// leave out are optional.
func (k *kind[T]) attributes(t reflect.Type, within string) map[string]schema.Attribute {
	all := map[string]schema.Attribute{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		path := within + name
		attribute := k.attribute(f.Type, path, strings.Contains(options, "omit"))
		all[k.rename(path, name)] = attribute
	}
	return all
}

// rename is the attribute's name: the field's, but for those that mean something else
// to Terraform.
func (k *kind[T]) rename(path, name string) string {
	if new, ok := k.renamed[path]; ok {
		return new
	}
	return name
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

func (k *kind[T]) attribute(t reflect.Type, path string, optional bool) schema.Attribute {
	description := describe(k.name, path)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Implements(textMarshaler) {
		return schema.StringAttribute{Required: !optional, Optional: optional, Description: description}
	}
	switch t.Kind() {
	case reflect.String:
		return schema.StringAttribute{Required: !optional, Optional: optional, Description: description}
	case reflect.Bool:
		return schema.BoolAttribute{Required: !optional, Optional: optional, Description: description}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return schema.Int64Attribute{Required: !optional, Optional: optional, Description: description}
	case reflect.Float64:
		return schema.Float64Attribute{Required: !optional, Optional: optional, Description: description}
	case reflect.Struct:
		return schema.SingleNestedAttribute{Required: !optional, Optional: optional, Description: description, Attributes: k.attributes(t, path+".")}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct && !t.Elem().Implements(textMarshaler) {
			return schema.ListNestedAttribute{
				Required: !optional, Optional: optional, Description: description,
				NestedObject: schema.NestedAttributeObject{Attributes: k.attributes(t.Elem(), path+".")},
			}
		}
		return schema.ListAttribute{Required: !optional, Optional: optional, Description: description, ElementType: types.StringType}
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return schema.MapAttribute{Required: !optional, Optional: optional, Description: description, ElementType: types.StringType}
		}
		return schema.MapAttribute{Required: !optional, Optional: optional, Description: description, ElementType: types.Int64Type}
	default:
		panic(fmt.Sprintf("%s: no attribute stands for a %s", path, t)) // a test makes every schema
	}
}
