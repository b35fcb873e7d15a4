package tablestore_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
)

func TestJudge(t *testing.T) {
	next := table(3)
	next.Epoch = 2
	broken := table(9)
	broken.Cluster.ID = "no ID"
	stranger := table(9)
	stranger.Cluster.Name = "beta"
	for name, c := range map[string]struct {
		offered, inForce *route.Table
		want             tablestore.Answer
	}{
		"the first":                   {table(1), nil, tablestore.Applied},
		"none":                        {nil, table(1), tablestore.Invalid},
		"newer":                       {table(5), table(4), tablestore.Applied},
		"the same":                    {table(4), table(4), tablestore.Unchanged},
		"older":                       {table(3), table(4), tablestore.Older},
		"a new epoch":                 {next, table(4), tablestore.Applied},
		"an old epoch":                {table(7), next, tablestore.Older},
		"broken":                      {broken, table(4), tablestore.Invalid},
		"another cluster's":           {stranger, table(4), tablestore.Invalid},
		"another cluster's, at first": {stranger, nil, tablestore.Invalid},
	} {
		answer, err := tablestore.Judge(c.offered, c.inForce, "alpha")
		if answer != c.want {
			t.Errorf("%s: %s, want %s (%v)", name, answer, c.want, err)
		}
		if refused := answer == tablestore.Older || answer == tablestore.Invalid; refused != (err != nil) {
			t.Errorf("%s: %s with error %v", name, answer, err)
		}
	}
}
