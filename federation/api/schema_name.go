package api

import (
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// schemaName names a Go type in the OpenAPI document: the API's own shapes by
// their name, values of other packages with the package in front, so that two
// packages may have a Service.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch pkg := path.Base(t.PkgPath()); pkg {
	case "catalog", "route", "merge", "audit":
		return strings.ToUpper(pkg[:1]) + pkg[1:] + name
	case "policy":
		if name == "Peer" {
			return "PeerSpec" // resource.Peer is what is known of it
		}
		return name
	case "v2": // of huma
		return strings.ReplaceAll(name, "ErrorModel", "Problem")
	default:
		return name
	}
}
