package client

import (
	"context"
	"net"
	"net/http"
	"time"
)

// WithDial puts another network under a gateway. The bound of dialing stays.
func (g *Gateway) WithDial(dial func(ctx context.Context, address string) (net.Conn, error)) *Gateway {
	g.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, g.patience)
		defer cancel()
		return dial(ctx, address)
	}
	return g
}

// ReplicaPatience is the limit that a replica's silence is judged by.
const ReplicaPatience time.Duration = replicaPatience
