package aws_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
)

// ending is a context for what a test cleans up after its end.
func ending(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

func TestContract(t *testing.T) {
	moto(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				w := newWorld(t)
				f := kinds[kind](w)
				return discoverytest.Backend{
					Source: w.source(w.config(f.account)),
					Set:    func(c discoverytest.Content) { w.change(f, c) },
					Fail: func(on bool) {
						if on {
							w.proxy.Fail(awstest.Throttled())
						} else {
							w.proxy.Fail(nil)
						}
					},
					Cut: func(c discoverytest.Content) {
						w.change(f, c)
						w.proxy.Fail(awstest.CutConnection())
					},
				}
			})
		})
	}
}
