package wan_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/wan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRelayDelaysBothWaysAndKeepsOrder(t *testing.T) {
	const oneWay = 20 * time.Millisecond
	target := echo(t)
	r, err := wan.New(wan.Options{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Target: target,
		Delay:  func(netip.AddrPort) time.Duration { return oneWay },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()

	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	start := time.Now()
	const count = 100
	for i := range count {
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 64)
	for i := range count {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("datagram %d of %d: %v", i, count, err)
		}
		if got := binary.BigEndian.Uint32(buf[:n]); got != uint32(i) {
			t.Fatalf("datagram %d came as number %d", got, i)
		}
		if i == 0 {
			if rtt := time.Since(start); rtt < 2*oneWay {
				t.Errorf("round trip %s, at least %s", rtt, 2*oneWay)
			}
		}
	}
	if r.Dropped() != 0 {
		t.Errorf("dropped %d", r.Dropped())
	}
	_ = c.Close()
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestACutLosesOneDirectionAndSaysNothing(t *testing.T) {
	var there, back atomic.Bool
	r, err := wan.New(wan.Options{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Target: echo(t),
		Delay: func(netip.AddrPort) time.Duration { return 0 },
		Cut: func(_ netip.AddrPort, way bool) bool {
			if way {
				return back.Load()
			}
			return there.Load()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	// ask sends a number and reads answers until its own, for which it waits.
	ask := func(n byte, wait time.Duration) error {
		if _, err := c.Write([]byte{n}); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		for {
			if _, err := c.Read(buf); err != nil || buf[0] == n {
				return err
			}
		}
	}
	const soon, long = 50 * time.Millisecond, 10 * time.Second
	for n, tt := range []struct{ there, back bool }{{true, false}, {false, true}, {true, true}} {
		if err := ask(byte(3*n), long); err != nil {
			t.Fatalf("not cut: %v", err)
		}
		there.Store(tt.there)
		back.Store(tt.back)
		if err := ask(byte(3*n+1), soon); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v: %v", tt, err)
		}
		there.Store(false)
		back.Store(false)
		if err := ask(byte(3*n+2), long); err != nil {
			t.Errorf("healed: %v", err)
		}
	}
	if r.Dropped() != 0 {
		t.Errorf("dropped %d", r.Dropped())
	}
	_ = c.Close()
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// echo answers every datagram with itself until the end of the test.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	target, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	t.Cleanup(func() {
		_ = target.Close()
		<-echoed
	})
	go func() {
		defer close(echoed)
		buf := make([]byte, 64)
		for {
			n, from, err := target.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = target.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return target.LocalAddr().(*net.UDPAddr).AddrPort()
}
