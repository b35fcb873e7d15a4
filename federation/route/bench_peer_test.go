package route_test

import (
	"encoding/json"
	"fmt"
	"sync"
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
	cc.said.Wait()
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.state.ConnectivityState != connectivity.Ready || cc.connected != n {
		tb.Fatalf("gRPC has %d of %d connections, %v", cc.connected, n, cc.state.ConnectivityState)
	}
	return cc.state.Picker
}

// readyConn is a channel whose connections are all there.
type readyConn struct {
	balancer.ClientConn
	said sync.WaitGroup // what connections have to say, which a balancer hears without its locks

	mu        sync.Mutex
	state     balancer.State
	connected int
}

type readySubConn struct {
	balancer.SubConn
	of     *readyConn
	listen func(balancer.SubConnState)
}

func (c *readyConn) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &readySubConn{of: c, listen: o.StateListener}, nil
}

func (c *readyConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}
func (c *readyConn) ResolveNow(resolver.ResolveNowOptions)  {}
func (c *readyConn) MetricsRecorder() stats.MetricsRecorder { return nil }

func (s *readySubConn) Connect() {
	s.of.said.Go(func() {
		s.listen(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
		s.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.connected++
	})
}
func (s *readySubConn) Shutdown() {}
func (s *readySubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	s.of.said.Go(func() { f(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

// TestGRPCPicker: the peer of the benchmark works as it does in a channel.
func TestGRPCPicker(t *testing.T) {
	p := grpcPicker(t, 10)
	for range 100 {
		r, err := p.Pick(balancer.PickInfo{})
		if err != nil {
			t.Fatal(err)
		}
		r.Done(balancer.DoneInfo{})
	}
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
