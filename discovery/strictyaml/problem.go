package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxSize bounds a document; a config or catalog file beyond it is a mistake.
const MaxSize = 64 << 20

// maxValueShown keeps one bad value from filling the terminal.
const maxValueShown = 80

// Problem is one thing wrong with a document.
type Problem struct {
	// File, Line and Column say where; Line 0 means the place is not known.
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Field is the path of keys and indexes: "gateway.listen.tcp[0].address".
	Field string `json:"field"`
	// Value is what the document says there, shortened.
	Value string `json:"value,omitempty"`
	// Rule is what the value breaks.
	Rule string `json:"rule"`
}

// Error is "file:line:column: field: rule (value)".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Rule)
	if p.Value != "" {
		fmt.Fprintf(&b, " (value %q)", p.Value)
	}
	return b.String()
}

// Problems are all that is wrong with a document, in the order of their place.
type Problems []Problem

// Error is one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// FieldError is what validations report, see catalog.FieldError.
type FieldError = catalog.FieldError

// Fail is a FieldError as an error.
func Fail(field string, value any, rule string) error {
	return &FieldError{Field: field, Value: value, Rule: rule}
}

// Within puts every FieldError in err below prefix ("listen" becomes
// "gateway.listen"); other errors become problems of prefix itself.
func Within(prefix string, err error) error {
	if err == nil {
		return nil
	}
	var out []error
	for _, e := range leaves(err) {
		if fe, ok := errors.AsType[*FieldError](e); ok {
			out = append(out, &FieldError{Field: join(prefix, fe.Field), Value: fe.Value, Rule: fe.Rule})
			continue
		}
		out = append(out, &FieldError{Field: prefix, Rule: e.Error()})
	}
	return errors.Join(out...)
}

// Locate turns err (FieldErrors, alone or joined) into Problems with the places
// of d. A field that the document leaves out gets its nearest parent's place.
func (d *Document) Locate(err error) Problems {
	var ps Problems
	for _, e := range leaves(err) {
		if pp, ok := errors.AsType[Problems](e); ok {
			ps = append(ps, pp...)
			continue
		}
		p := Problem{File: d.File, Rule: e.Error()}
		if fe, ok := errors.AsType[*FieldError](e); ok {
			p.Field, p.Rule = fe.Field, fe.Rule
			if fe.Value != nil {
				p.Value = shorten(fmt.Sprint(fe.Value))
			}
			p.Line, p.Column = d.place(fe.Field)
		}
		ps = append(ps, p)
	}
	ps.Sort()
	return ps
}

// Sort orders by place.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field))
	})
}

// leaves flattens errors.Join; Problems stay whole.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, leaves(e)...)
		}
		return out
	}
	return []error{err}
}

func join(prefix, field string) string {
	switch {
	case field == "":
		return prefix
	case prefix == "" || strings.HasPrefix(field, "["):
		return prefix + field
	default:
		return prefix + "." + field
	}
}

func shorten(s string) string {
	if len(s) > maxValueShown {
		return s[:maxValueShown] + "..."
	}
	return s
}

// With adds to what could not be read the problems that a validation of the rest
// has found, ordered by place. What the validation says of a field that could not
// be read is dropped: it judged a value that nobody wrote.
func (d *Document) With(read Problems, found error) Problems {
	bad := make(map[string]bool, len(read))
	for _, p := range read {
		bad[p.Field] = true
	}
	out := slices.Clone(read)
	for _, p := range d.Locate(found) {
		if !bad[p.Field] {
			out = append(out, p)
		}
	}
	out.Sort()
	return out
}

// DecodeValid is Decode, and check of what could be read: it is called unless the
// document was unreadable, when it would only judge the defaults. The error is
// Problems, what could not be read and what check has found together.
func DecodeValid(file string, data []byte, into any, check func() error) error {
	return Options{}.DecodeValid(file, data, into, check)
}

// DecodeValid is the function of the same name, with options.
func (o Options) DecodeValid(file string, data []byte, into any, check func() error) error {
	doc, err := o.Decode(file, data, into)
	var problems Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if !doc.Unreadable {
		problems = doc.With(problems, check())
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}
