package route_test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// grpcPicker is gRPC's own picker of the power of two choices by calls in progress
// (least_request_experimental), over n endpoints that are all ready: what a decision is
// compared with in the same run.
func grpcPicker(tb testing.TB, n int) balancer.Picker {
	tb.Helper()
	cc := &readyConn{}
	builder := balancer.Get(leastrequest.Name)
	config, err := builder.(interface {
		ParseConfig(json.RawMessage) (serviceconfig.LoadBalancingConfig, error)
	}).ParseConfig(json.RawMessage(`{}`))
	if err != nil {
		tb.Fatal(err)
	}
	b := builder.Build(cc, balancer.BuildOptions{})
	tb.Cleanup(b.Close)
	var s resolver.State
	for i := range n {
		a := resolver.Address{Addr: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)}
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	if err := b.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: config}); err != nil {
		tb.Fatal(err)
	}
	b.ExitIdle()
	if cc.state.ConnectivityState != connectivity.Ready || int(cc.connected.Load()) != n {
		tb.Fatalf("gRPC has %d of %d connections, %v", cc.connected.Load(), n, cc.state.ConnectivityState)
	}
	return cc.state.Picker
}

// readyConn is a channel whose connections are all there.
type readyConn struct {
	balancer.ClientConn
	state     balancer.State
	connected atomic.Int64
}

type readySubConn struct {
	balancer.SubConn
	of     *readyConn
	listen func(balancer.SubConnState)
}

func (c *readyConn) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &readySubConn{of: c, listen: o.StateListener}, nil
}
func (c *readyConn) UpdateState(s balancer.State)           { c.state = s }
func (c *readyConn) ResolveNow(resolver.ResolveNowOptions)  {}
func (c *readyConn) MetricsRecorder() stats.MetricsRecorder { return nil }

func (s *readySubConn) Connect() {
	s.of.connected.Add(1)
	s.listen(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	s.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}
func (s *readySubConn) Shutdown() {}
func (s *readySubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	f(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

// benchGRPC is a pick of gRPC's, with the end of its call.
func benchGRPC(b *testing.B, p balancer.Picker) {
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Pick(balancer.PickInfo{})
		if err != nil {
			b.Fatal(err)
		}
		r.Done(balancer.DoneInfo{})
	}
}
