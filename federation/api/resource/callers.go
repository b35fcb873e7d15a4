package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// MaxCallersWindow is how far back callers are remembered, and the default of
	// those who ask.
	MaxCallersWindow = time.Hour
	// MaxCallers bounds an answer.
	MaxCallers = 1000
)

// Callers are those that the own gateways saw to call services of the own cluster.
type Callers struct {
	Items []route.Sighting `json:"items" nullable:"false"`
	// Window is how far back the answer looks.
	Window time.Duration `json:"window_ns"`
	Total  int           `json:"total" doc:"How many there are; items has at most 1000 of them."`
	// Dropped is how many calls were not kept, since the start.
	Dropped uint64 `json:"dropped,omitempty" doc:"Calls that were not kept since the start: more callers than fit."`
}
