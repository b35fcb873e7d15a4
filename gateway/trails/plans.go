package trails

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// slice is the plan of one service, as long as trails refer to it.
type slice struct {
	id      uint64
	service catalog.ServiceName
	plan    *route.Plan
	bytes   int
	refs    int
}

// plans are the slices that trails hold. Those of the plan in force are found again,
// so that the calls of one moment share them.
type plans struct {
	of      *route.Plan
	slices  map[catalog.ServiceName]*slice
	bytes   int
	counter uint64
}

func (p *plans) tick() uint64 {
	p.counter++
	return p.counter
}

func (p *plans) hold(plan *route.Plan, service catalog.ServiceName) *slice {
	if p.of != plan {
		p.of, p.slices = plan, make(map[catalog.ServiceName]*slice)
	}
	s := p.slices[service]
	if s == nil {
		s = &slice{id: p.tick(), service: service}
		s.plan, s.bytes = plan.Of(service)
		p.slices[service] = s
		p.bytes += s.bytes
	}
	s.refs++
	return s
}

func (p *plans) release(s *slice) {
	if s.refs--; s.refs > 0 {
		return
	}
	p.bytes -= s.bytes
	if p.slices[s.service] == s {
		delete(p.slices, s.service)
	}
}
