package catalog

import (
	"errors"
	"fmt"
	"slices"
)

// maxProblems bounds how many problems one validation reports: a hostile
// snapshot of a million bad endpoints must not become a million errors.
const maxProblems = 100

// FieldError is one problem that a validation found: the path of the field
// inside what was validated, its value and the rule that it breaks.
type FieldError struct {
	Field string
	Value any
	Rule  string
}

// Error is "field: rule (value)".
func (e *FieldError) Error() string {
	if e.Value == nil || e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Field, e.Rule)
	}
	return fmt.Sprintf("%s: %s (value %q)", e.Field, e.Rule, fmt.Sprint(e.Value))
}

// problems gathers FieldErrors up to maxProblems and counts the rest.
type problems struct {
	errs    []error
	dropped int
}

func (p *problems) add(field string, value any, rule string) {
	if len(p.errs) >= maxProblems {
		p.dropped++
		return
	}
	p.errs = append(p.errs, &FieldError{Field: field, Value: shortValue(value), Rule: rule})
}

// check adds err as a problem of field where err is not nil.
func (p *problems) check(field string, value any, err error) {
	if err != nil {
		p.add(field, value, err.Error())
	}
}

// within adds what q found, below prefix.
func (p *problems) within(prefix string, q *problems) {
	for _, err := range q.errs {
		if fe, ok := errors.AsType[*FieldError](err); ok {
			p.add(prefix+"."+fe.Field, fe.Value, fe.Rule)
		}
	}
	p.dropped += q.dropped
}

func (p *problems) full() bool { return len(p.errs) >= maxProblems }

func (p *problems) err() error {
	if p.dropped > 0 {
		return errors.Join(append(slices.Clip(p.errs),
			fmt.Errorf("and %d more problems, of which the first %d are shown", p.dropped, maxProblems))...)
	}
	return errors.Join(p.errs...)
}

// maxValueShown keeps one hostile value from filling a log line.
const maxValueShown = 80

func shortValue(v any) any {
	if s, ok := v.(string); ok && len(s) > maxValueShown {
		return s[:maxValueShown] + "..."
	}
	return v
}
