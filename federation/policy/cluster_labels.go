package policy

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxClusterLabels bounds the labels of one cluster: they rank clusters, and describe
// nothing else.
const MaxClusterLabels = 16

// CheckClusterLabels reports what is wrong with the labels that an operator gives to
// a cluster, joined, each a *catalog.FieldError below "labels".
func CheckClusterLabels(labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	p := newProblems()
	validateClusterLabels(p, labels)
	return p.err()
}

func validateClusterLabels(p problems, labels map[string]string) {
	checkCount(p, "labels", len(labels), 0, MaxClusterLabels)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		field, v := "labels."+shorten(k), labels[k]
		switch err := catalog.CheckLabel(k, v); {
		case err != nil:
			p.add(field, v, "%v", err)
		case v == "":
			p.add(field, v, "must have a value")
		case k == LabelCloud || k == LabelRegion || k == LabelZone || k == LabelCluster:
			p.add(field, v, "is a label that every cluster has already")
		}
	}
}
