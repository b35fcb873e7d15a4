package route_test

import (
	"reflect"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// An edition is its table: of rows by pointer, and of a whole one, which it keeps.
func TestAnEditionIsItsTable(t *testing.T) {
	whole := &route.Table{Format: 1, Epoch: 2, Version: 3, Federation: "f:1", Services: []route.Service{
		{Name: catalog.MustServiceName("a.x")}, {Name: catalog.MustServiceName("b.x"), ExportedTo: []catalog.ClusterName{"p"}},
	}}
	of := route.EditionOf(whole)
	if of.Table() != whole || of.Head().Services != nil || of.Head().Version != 3 || len(of.Rows()) != 2 {
		t.Errorf("edition of a whole table: %+v", of.Head())
	}
	again := route.NewEdition(*of.Head(), of.Rows())
	first := again.Table()
	if second := again.Table(); !reflect.DeepEqual(first, whole) || second != first {
		t.Errorf("table of rows: %+v, want %+v", first, whole)
	}
	if empty := route.NewEdition(*of.Head(), nil).Table(); empty.Services != nil {
		t.Errorf("table of no rows: %+v", empty)
	}
}
