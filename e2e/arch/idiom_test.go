package arch_test

import (
	"go/ast"
	"go/token"
	"slices"
	"testing"
)

// textTests are the functions of package strings that a caller would tell errors
// apart with.
var textTests = []string{"Contains", "HasPrefix", "HasSuffix", "EqualFold"}

// A message is for people and changes without notice; and once one caller reads
// it, nobody may improve it.
func TestErrorsAreNotToldApartByTheirText(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if matchesErrorText(n) {
				t.Errorf("%s matches the text of an error: use errors.Is or errors.AsType", f.path)
			}
			return true
		})
	}
}

func matchesErrorText(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		return (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) || isErrorText(n.Y))
	case *ast.CallExpr:
		fun, ok := n.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains(textTests, fun.Sel.Name) {
			return false
		}
		pkg, ok := fun.X.(*ast.Ident)
		return ok && pkg.Name == "strings" && slices.ContainsFunc(n.Args, isErrorText)
	}
	return false
}

// isErrorText tells whether x is a call of a method Error without arguments.
func isErrorText(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok || len(call.Args) > 0 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Error"
}
