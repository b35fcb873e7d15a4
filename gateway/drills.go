package gateway

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/drill"
)

// followDrills ends drills that must not go on, until ctx ends.
func (g *Gateway) followDrills(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			g.drill.Stop()
			return nil
		case <-g.drill.Started():
		}
		for g.drill.Judge(g.drillConditions()) {
			if !pause(ctx, drill.Interval) {
				break
			}
		}
	}
}

func (g *Gateway) drillConditions() drill.Conditions {
	return drill.Conditions{
		Heard: time.Unix(0, g.reports.heard.Load()), Switched: g.overDrills(), Evidence: g.board.Evidence(),
	}
}

// overDrills says what an operator has set at this gateway, which goes before any drill.
func (g *Gateway) overDrills() string {
	if s := g.switched.Load(); s != nil && s.Any() {
		return s.String()
	}
	return ""
}
