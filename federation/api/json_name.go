package api

import (
	"reflect"
	"strings"
)

// jsonName is the name of a field in JSON; "" where it has none of its own.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous || name == "-" {
		return ""
	}
	return name
}
