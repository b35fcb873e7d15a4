package simulation

import "time"

// weather is how a way from one cluster to another behaves.
type weather struct {
	loss, twice float64
	jitter      time.Duration
}

// fair is the weather in which nothing is a fault: a little of everything.
var fair = weather{loss: 0.002, twice: 0.001, jitter: 2 * time.Millisecond}

// network is the modelled ways between gateways, and inside of clusters.
type network struct {
	s *Sim
	// delay is one way, by cluster.
	delay [][]time.Duration
	sky   [][]weather
	// cut ways carry nothing, by cluster and by gateway; a count of the faults
	// that cut them.
	cut   [][]int
	alone map[[2]*gateway]int
	// bad is when a way last had a fault that may silence it, for the oracle.
	bad [][]time.Duration
}

func newNetwork(s *Sim, clusters int) *network {
	n := &network{s: s, alone: make(map[[2]*gateway]int)}
	square := func() [][]time.Duration {
		rows := make([][]time.Duration, clusters)
		for i := range rows {
			rows[i] = make([]time.Duration, clusters)
		}
		return rows
	}
	n.delay, n.bad = square(), square()
	n.sky, n.cut = make([][]weather, clusters), make([][]int, clusters)
	for i := range clusters {
		n.sky[i], n.cut[i] = make([]weather, clusters), make([]int, clusters)
		for j := range clusters {
			n.sky[i][j] = fair
			n.bad[i][j] = -time.Hour
			if j < i {
				n.delay[i][j] = s.between(2*time.Millisecond, 50*time.Millisecond)
				n.delay[j][i] = n.delay[i][j]
			}
		}
	}
	return n
}

// blocked reports whether a way carries nothing now.
func (n *network) blocked(from, to *gateway) bool {
	return n.cut[from.home.index][to.home.index] > 0 || n.alone[[2]*gateway{from, to}] > 0
}

// rtt is the round trip of a way in fair weather.
func (n *network) rtt(a, b *gateway) time.Duration {
	return n.delay[a.home.index][b.home.index] + n.delay[b.home.index][a.home.index]
}

// travel is how long one packet takes.
func (n *network) travel(from, to *gateway) time.Duration {
	return n.delay[from.home.index][to.home.index] + n.s.between(0, n.sky[from.home.index][to.home.index].jitter)
}

// datagram sends a packet that may be lost, come twice, and come out of order.
func (n *network) datagram(from, to *gateway, arrive func()) {
	sky := &n.sky[from.home.index][to.home.index]
	if n.blocked(from, to) || n.s.chance(sky.loss) {
		return
	}
	to.after(n.travel(from, to), arrive)
	if n.s.chance(sky.twice) {
		to.after(n.travel(from, to), arrive)
	}
}

// pipe is one direction of a stream on a link: what is sent arrives in order, or
// not at all once the link is dead. What is lost on the way is sent again.
type pipe struct {
	from    *end
	arrived time.Duration // when the last one does
	waiting []func()
}

func (p *pipe) send(arrive func()) {
	p.waiting = append(p.waiting, arrive)
	if len(p.waiting) == 1 {
		p.push()
	}
}

// push sends what waits; lost packets and blocked ways cost probe timeouts.
func (p *pipe) push() {
	from := p.from
	n, to := from.gateway.net, from.far
	for len(p.waiting) > 0 {
		if !from.open {
			p.waiting = nil
			return
		}
		sky := &n.sky[from.gateway.home.index][to.gateway.home.index]
		if n.blocked(from.gateway, to.gateway) || n.s.chance(sky.loss) {
			timeout := n.rtt(from.gateway, to.gateway)*3/2 + 30*time.Millisecond
			from.gateway.after(timeout, p.push)
			return
		}
		arrive := p.waiting[0]
		p.waiting = p.waiting[1:]
		at := max(n.s.now+n.travel(from.gateway, to.gateway), p.arrived+1)
		p.arrived = at
		to.gateway.at(at, func() {
			if to.open {
				arrive()
			}
		})
	}
}
