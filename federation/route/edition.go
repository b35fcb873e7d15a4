package route

import "sync"

// Edition is a table as the one who makes it holds it: its rows stand beside it,
// each by a pointer, so that editions which follow each other share the rows of
// all services that did not change, and a new one costs a list of pointers. It is
// immutable.
type Edition struct {
	head Table // without Services
	rows []*Service

	once  sync.Once
	table *Table
}

// NewEdition is the edition of a head, whose Services do not count, and of rows in
// the order of their names. Neither changes afterwards.
func NewEdition(head Table, rows []*Service) *Edition {
	head.Services = nil
	return &Edition{head: head, rows: rows}
}

// EditionOf is the edition of a whole table, which does not change afterwards.
func EditionOf(t *Table) *Edition {
	rows := make([]*Service, len(t.Services))
	for i := range rows {
		rows[i] = &t.Services[i]
	}
	e := NewEdition(*t, rows)
	e.once.Do(func() { e.table = t })
	return e
}

// Head is the table without its services; it is not to be changed.
func (e *Edition) Head() *Table { return &e.head }

// Rows are the services, by name; they are not to be changed.
func (e *Edition) Rows() []*Service { return e.rows }

// Table is the whole table in one piece, made when it is first asked for.
func (e *Edition) Table() *Table {
	e.once.Do(func() {
		t := e.head
		if len(e.rows) > 0 {
			t.Services = make([]Service, len(e.rows))
			for i, r := range e.rows {
				t.Services[i] = *r
			}
		}
		e.table = &t
	})
	return e.table
}
