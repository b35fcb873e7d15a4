package route

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// firstMismatch is the index of the first label that the candidate does not share
// with the gateway, or whose value is not the one that the policy asks for; the
// number of labels where all match. What is not known is equal to nothing.
func (c *compiler) firstMismatch(cand *candidate, labels []policy.LabelPriority) int {
	for i, l := range labels {
		label, want, overridden := l.Split()
		if !overridden {
			want = c.ownLabel(label)
		}
		if want == "" || c.labelOf(cand, label) != want {
			return i
		}
	}
	return len(labels)
}

// ownLabel is the value of a label where the gateway is.
func (c *compiler) ownLabel(label string) string {
	switch self := c.plan.self; label {
	case policy.LabelCloud:
		return self.Cloud
	case policy.LabelRegion:
		return self.Region
	case policy.LabelZone:
		return self.Zone
	case policy.LabelCluster:
		return string(c.table.Cluster.Name)
	default:
		return c.table.Cluster.Labels[label]
	}
}

func (c *compiler) labelOf(cand *candidate, label string) string {
	switch label {
	case policy.LabelCloud:
		return cand.locality.Cloud
	case policy.LabelRegion:
		return cand.locality.Region
	case policy.LabelZone:
		return cand.locality.Zone
	case policy.LabelCluster:
		return string(cand.target.Cluster)
	}
	if cand.own() {
		return c.table.Cluster.Labels[label]
	}
	if peer := c.plan.peers[cand.target.Cluster]; peer != nil {
		return peer.Labels[label]
	}
	return ""
}

// mismatchText names the rank that labels gave a candidate.
func mismatchText(c *candidate, labels []policy.LabelPriority) string {
	if c.differs >= len(labels) {
		return "all labels match"
	}
	return fmt.Sprintf("label %s differs", labels[c.differs])
}
