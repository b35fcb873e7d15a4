package merge_test

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

func ExampleMerge() {
	http, tcp := []catalog.Port{{Name: "p", Protocol: catalog.HTTP}}, []catalog.Port{{Name: "p", Protocol: catalog.TCP}}
	web := catalog.MustServiceName("web.shop")
	v := merge.Merge(merge.Input{
		Cluster: "aws-us-east-1",
		Peers: []merge.Peer{
			{Cluster: "gcp-us-central1", Summaries: []*catalog.Summary{{Service: web, Ports: http}}},
			{Cluster: "onprem-ams", Summaries: []*catalog.Summary{{Service: web, Ports: tcp}}},
		},
		Order: []catalog.ClusterName{"onprem-ams"},
		Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			return merge.Import{Rule: "everything", As: n}, true
		},
	})
	s := v.Get(web)
	fmt.Println(s.Ports, len(s.Offers))
	for _, c := range s.Conflicts {
		fmt.Println(c.Field, "of", c.Winner.Cluster, c.Why, c.Disagree, "of", c.Of, "disagree")
	}
	// Output:
	// [{p tcp}] 2
	// ports/p/protocol of onprem-ams order_of_clusters 1 of 2 disagree
}
