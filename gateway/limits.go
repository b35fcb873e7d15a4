package gateway

import "strconv"

// The defaults of Limits.
const (
	// DefaultConnections bounds the connections of all ways in together, as
	// Envoy's edge guide does.
	DefaultConnections = 50_000
	// DefaultConnectionsPerListener keeps one listener from taking all of them.
	DefaultConnectionsPerListener = 10_000
	// DefaultStreams bounds the streams of all links together.
	DefaultStreams = 50_000
)

// Limits bound what the process takes on. Whatever the configuration says, the
// connections use at most half of the file descriptors that the process may
// open: the other half is for endpoints, links and files.
type Limits struct {
	Connections            int `yaml:"connections,omitempty"`
	ConnectionsPerListener int `yaml:"connections_per_listener,omitempty"`
	Streams                int `yaml:"streams,omitempty"`
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Connections, DefaultConnections},
		{&l.ConnectionsPerListener, DefaultConnectionsPerListener},
		{&l.Streams, DefaultStreams},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}

func (l Limits) validate(p *problems) {
	for _, f := range []struct {
		field string
		value int
	}{
		{"limits.connections", l.Connections},
		{"limits.connections_per_listener", l.ConnectionsPerListener},
		{"limits.streams", l.Streams},
	} {
		if f.value < 1 {
			p.add(f.field, strconv.Itoa(f.value), "must be at least 1")
		}
	}
}
