package simulate

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// RecordingVersion is that of Recording's JSON.
const RecordingVersion = 1

// Recording is what a simulation starts from.
type Recording struct {
	Version int `json:"version"`
	// At is when it was taken.
	At time.Time `json:"at"`
	// Gateways are the own cluster's that were heard.
	Gateways []Gateway `json:"gateways"`
}

// Gateway is one gateway's part of it.
type Gateway struct {
	// Table is what it routes by, Report its last word.
	Table  *route.Table  `json:"table"`
	Report *route.Report `json:"report"`
	// Demand is what its callers asked for within Window.
	Demand []route.Flow  `json:"demand"`
	Window time.Duration `json:"window_ns"`
	// Askers are who made those calls; without them priorities are known by their sums.
	Askers []route.Asker `json:"askers,omitempty"`
}

// MaxRecording bounds a recording's JSON.
const MaxRecording = 256 << 20

// Read reads a recording's JSON and checks it.
func Read(data []byte) (*Recording, error) {
	if len(data) > MaxRecording {
		return nil, fmt.Errorf("recording: longer than %d bytes", MaxRecording)
	}
	r := new(Recording)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	if r.Version != RecordingVersion {
		return nil, fmt.Errorf("recording: version %d, this program reads %d", r.Version, RecordingVersion)
	}
	for i := range r.Gateways {
		g := &r.Gateways[i]
		if g.Table == nil || g.Report == nil || g.Window < 0 {
			return nil, fmt.Errorf("recording: gateways[%d]: must have a table, a report and a window", i)
		}
		if err := g.Table.Validate(); err != nil {
			return nil, fmt.Errorf("recording: gateways[%d].table: %w", i, err)
		}
	}
	return r, nil
}
