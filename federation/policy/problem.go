package policy

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// maxValueShown keeps one bad value from filling a log line or an answer.
const maxValueShown = 80

// maxProblems bounds what one validation reports: a hostile set of ten thousand
// bad rules must not become a million errors.
const maxProblems = 100

// problems gathers catalog.FieldErrors of one value and of those inside of it.
type problems struct {
	prefix string
	found  *findings
}

type findings struct {
	errs    []error
	dropped int
}

func newProblems() problems { return problems{found: new(findings)} }

// at is the same list, for the fields below field.
func (p problems) at(format string, args ...any) problems {
	return problems{prefix: p.prefix + fmt.Sprintf(format, args...) + ".", found: p.found}
}

// add records that field's value breaks a rule.
func (p problems) add(field string, value any, rule string, args ...any) {
	if len(p.found.errs) >= maxProblems {
		p.found.dropped++
		return
	}
	p.found.errs = append(p.found.errs, &catalog.FieldError{
		Field: p.prefix + field,
		Value: shorten(fmt.Sprint(value)),
		Rule:  fmt.Sprintf(rule, args...),
	})
}

// err joins the problems; nil where there are none.
func (p problems) err() error {
	if n := p.found.dropped; n > 0 {
		return errors.Join(append(p.found.errs, fmt.Errorf("and %d more problems, of which the first %d are shown", n, maxProblems))...)
	}
	return errors.Join(p.found.errs...)
}

func shorten(s string) string {
	if len(s) > maxValueShown {
		return s[:maxValueShown] + "..."
	}
	return s
}
