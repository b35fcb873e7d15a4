package policy

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
)

// DefaultTraffic is the policy of a service that no traffic policy covers, with
// every field filled.
func DefaultTraffic() *Traffic { return new(Traffic{}.Filled()) }

// Filled returns t with every unset field at its default; t is not changed.
func (t Traffic) Filled() Traffic {
	if t.Algorithm == "" {
		t.Algorithm = P2C
	}
	if t.PanicThreshold == nil {
		t.PanicThreshold = new(DefaultPanicThreshold)
	}
	if t.Retries == nil {
		t.Retries = new(DefaultRetries)
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
