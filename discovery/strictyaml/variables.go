package strictyaml

import (
	"fmt"
	"regexp"

	"github.com/goccy/go-yaml/ast"
)

// variable is ${NAME}, or $${ which stands for ${ itself.
var variable = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)

// variableName is what a shell takes for one.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// written is the text of a single value, with what its variables stand for. It has
// reported the problem where it returns false.
func (d *decoder) written(n ast.Node, field string) (string, bool) {
	s, ok := scalarText(n)
	if !ok {
		d.fail(n, field, "must be a single value")
		return "", false
	}
	if d.variables == nil {
		return s, true
	}
	before := len(d.problems)
	s = variable.ReplaceAllStringFunc(s, func(ref string) string {
		if ref == "$${" {
			return "${"
		}
		name := variable.FindStringSubmatch(ref)[1]
		if !variableName.MatchString(name) || ref[len(ref)-1] != '}' {
			d.fail(n, field, fmt.Sprintf("%s must be ${NAME} of an environment variable, or $${ for the characters ${", ref))
			return ref
		}
		value, set := d.variables(name)
		if !set {
			d.fail(n, field, fmt.Sprintf("the environment variable %s is not set", name))
		}
		return value
	})
	return s, len(d.problems) == before
}
