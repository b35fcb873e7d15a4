package catalog

// Summary is what crosses clusters of one exported service: counts per port,
// zone and subset, never an endpoint's address. Rows are sorted by port, zone,
// subset; Ports by name.
type Summary struct {
	Service ServiceName  `json:"service"`
	Ports   []Port       `json:"ports"`
	Rows    []SummaryRow `json:"rows,omitempty"`
}

// SummaryRow counts the endpoints of one port in one zone with one subset.
type SummaryRow struct {
	Port string `json:"port"`
	// Zone is the zone part of the origin's locality; cloud and region are the cluster's.
	Zone string `json:"zone,omitempty"`
	// Subset is the canonical form of the labels that the export publishes
	// ("k=v,k2=v2", sorted by key), or "" for all.
	Subset string `json:"subset,omitempty"`
	// Ready and Total count endpoints; Ready <= Total.
	Ready uint32 `json:"ready"`
	Total uint32 `json:"total"`
	// Capacity is in requests or connections at once; 0 means unknown.
	Capacity uint64 `json:"capacity,omitempty"`
}

// Gateway is one entry of a cluster's roster.
type Gateway struct {
	// Name is a DNS label, unique in its cluster.
	Name string `json:"name"`
	// ID is the gateway's SPIFFE ID.
	ID string `json:"id"`
	// Addresses are host:port, each for UDP and TCP, tried in order. Empty:
	// the gateway takes no inbound links (it dials out).
	Addresses []string `json:"addresses,omitempty"`
	// Draining gateways finish what they carry and take nothing new.
	Draining bool `json:"draining,omitempty"`
}
