package policy

import "cmp"

// The defaults of a traffic policy.
const (
	// DefaultPanicThreshold in percent is Envoy's.
	DefaultPanicThreshold uint32 = 50
	// DefaultRetries bounds the extra attempts of one request.
	DefaultRetries uint32 = 2
	// DefaultCheckType is a TCP connect: it needs to know nothing of the service.
	DefaultCheckType = "tcp"
	// The default pace of active health checks of own endpoints.
	DefaultCheckIntervalMS uint32 = 1000
	DefaultCheckTimeoutMS  uint32 = 500
	DefaultCheckFall       uint32 = 3
	DefaultCheckRise       uint32 = 2
	// The defaults of hashes: Envoy's least ring (and a bound far below its 8 million,
	// since every service may have one), Maglev's table (Eisenbud et al. 2016) and the
	// bound of Mirrokni et al. (2016).
	DefaultMinRingSize  uint32 = 1024
	DefaultMaxRingSize  uint32 = 65536
	DefaultTableSize    uint32 = 65537
	DefaultBoundPercent uint32 = 125
	DefaultBoundLeast   uint32 = 10
	// The defaults of a slow start are Envoy's.
	DefaultAggression        = 1.0
	DefaultMinPercent uint32 = 10
)

// DefaultTraffic is the policy of a service that no traffic policy covers, with
// every field filled.
func DefaultTraffic() *Traffic { return new(Traffic{}.Filled()) }

// Filled returns t with every unset field at its default; t is not changed.
func (t Traffic) Filled() Traffic {
	if t.Algorithm == "" {
		t.Algorithm = P2C
		if len(t.Sticky) > 0 {
			t.Algorithm = Maglev
		}
	}
	if t.PanicThreshold == nil {
		t.PanicThreshold = new(DefaultPanicThreshold)
	}
	if t.Retries == nil {
		t.Retries = new(DefaultRetries)
	}
	t.fillChoosing()
	if t.Budget != nil {
		t.Budget = new(t.Budget.Filled())
	}
	check := HealthCheck{}
	if t.HealthCheck != nil {
		check = *t.HealthCheck
	}
	if check.Type == "" {
		check.Type = DefaultCheckType
	}
	for _, f := range []struct {
		field *uint32
		value uint32
	}{
		{&check.IntervalMS, DefaultCheckIntervalMS},
		{&check.TimeoutMS, DefaultCheckTimeoutMS},
		{&check.Fall, DefaultCheckFall},
		{&check.Rise, DefaultCheckRise},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	t.HealthCheck = &check
	return t
}

// fillChoosing fills what is set of how to choose; what it changes it copies.
func (t *Traffic) fillChoosing() {
	if t.Algorithm.Hashes() {
		h := Hashing{}
		if t.Hashing != nil {
			h = *t.Hashing
		}
		h.MinRingSize = cmp.Or(h.MinRingSize, min(DefaultMinRingSize, cmp.Or(h.MaxRingSize, DefaultMinRingSize)))
		h.MaxRingSize = cmp.Or(h.MaxRingSize, max(DefaultMaxRingSize, h.MinRingSize))
		h.BoundLeast = cmp.Or(h.BoundLeast, DefaultBoundLeast)
		if h.BoundPercent == nil {
			h.BoundPercent = new(DefaultBoundPercent)
		}
		t.Hashing = &h
	}
	if t.SlowStart != nil {
		s := *t.SlowStart
		s.Aggression, s.MinPercent = cmp.Or(s.Aggression, DefaultAggression), cmp.Or(s.MinPercent, DefaultMinPercent)
		t.SlowStart = &s
	}
}
