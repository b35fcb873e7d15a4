package policy

// Bounds of a quota: what one federation can hold of one origin at all.
const (
	maxQuotaServices  = 100_000
	maxQuotaRows      = 1_000_000
	maxQuotaEndpoints = 100_000_000
	maxQuotaBytes     = 256 << 20
	// minQuotaBytes holds a roster and a bundle; below, a peer could say nothing.
	minQuotaBytes   = 64 << 10
	maxQuotaUpdates = 1000
)

// PeerQuota bounds what a peer may make this cluster hold and do. Whatever is
// above is refused whole, and the last good state stays in use; 0 is the default.
type PeerQuota struct {
	// Services is the most services that the peer may offer; default 10000.
	Services int `json:"services,omitempty" yaml:"services"`
	// Rows is the most rows of their summaries, one for each port, zone and subset
	// of a service; default 50000.
	Rows int `json:"rows,omitempty" yaml:"rows"`
	// Endpoints is the most endpoints that the rows may count together; default
	// 1000000.
	Endpoints int `json:"endpoints,omitempty" yaml:"endpoints"`
	// Bytes is the most bytes of everything that is held of the peer, as it was
	// sent; default 16777216.
	Bytes int `json:"bytes,omitempty" yaml:"bytes"`
	// UpdatesPerSecond is how often it may change what it says, heartbeats included,
	// in the long run; twice as many may come at once. Default 10.
	UpdatesPerSecond int `json:"updates_per_second,omitempty" yaml:"updates_per_second"`
}

func (q PeerQuota) validate(v problems) {
	for _, f := range []struct {
		field     string
		value     int
		low, high int
	}{
		{"services", q.Services, 1, maxQuotaServices},
		{"rows", q.Rows, 1, maxQuotaRows},
		{"endpoints", q.Endpoints, 1, maxQuotaEndpoints},
		{"bytes", q.Bytes, minQuotaBytes, maxQuotaBytes},
		{"updates_per_second", q.UpdatesPerSecond, 1, maxQuotaUpdates},
	} {
		if f.value != 0 && (f.value < f.low || f.value > f.high) {
			v.add(f.field, f.value, "must be %d to %d, or 0 for the default", f.low, f.high)
		}
	}
}
