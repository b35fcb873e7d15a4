package resource

import "time"

// Replica is one federation process of the own cluster.
type Replica struct {
	Name string `json:"name"`
	// Address is the host:port of its mesh listener.
	Address   string    `json:"address"`
	Build     string    `json:"build,omitempty"`
	StartedAt time.Time `json:"started_at"`
	// Exporter is set on the one that speaks to peers.
	Exporter bool `json:"exporter"`
	// Self is set on the one that answers.
	Self bool `json:"self,omitempty"`
}
