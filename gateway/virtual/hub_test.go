package virtual_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

// freePort is a port that nobody has on any address of the host at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// greet serves a hub: each connection is told where it goes, until the hub closes.
func greet(h *virtual.Hub) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := h.Accept()
			if err != nil {
				return
			}
			t, ok := h.Find(c.LocalAddr())
			if ok {
				_, _ = io.WriteString(c, t.String()+":"+t.Port)
			}
			_ = c.Close()
		}
	})
	return wg.Wait
}

func ask(at netip.AddrPort) (string, error) {
	c, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	all, err := io.ReadAll(c)
	return string(all), err
}

func TestAHubListensOnAddressesOfItsOwn(t *testing.T) {
	h := virtual.NewHub(virtual.HubOptions{Range: netip.MustParsePrefix("127.77.0.0/16")})
	wait := greet(h)
	number, other := freePort(t), freePort(t)
	// Another server of the host has the same port on its own address.
	own, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), number).String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	web, db := netip.MustParseAddr("127.77.0.1"), netip.MustParseAddr("127.77.200.2")
	at := func(a netip.Addr, n uint16) netip.AddrPort { return netip.AddrPortFrom(a, n) }
	for a, k := range map[netip.Addr]string{web: "web", db: "db"} {
		if err := h.Set(a, map[virtual.Port]virtual.Target{{Number: number}: {Key: key(k), Port: "main"}}); err != nil {
			t.Fatal(err)
		}
	}
	for a, want := range map[netip.Addr]string{web: "web.default:main", db: "db.default:main"} {
		if got, err := ask(at(a, number)); got != want || err != nil {
			t.Errorf("%s: %q, %v", a, got, err)
		}
	}
	if !h.Listens(key("web"), web) || h.Listens(key("db"), web) || h.Sockets() != 2 || h.Addr().String() != "127.77.0.0/16" {
		t.Error("it does not know what it listens on")
	}
	// Another port, another service on the same socket, and nothing.
	if err := h.Set(web, map[virtual.Port]virtual.Target{{Number: other}: {Key: key("web"), Port: "admin"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(at(web, other)); got != "web.default:admin" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ask(at(web, number)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port that was taken back: %v", err)
	}
	if err := h.Set(db, map[virtual.Port]virtual.Target{{Number: number}: {Key: key("new"), Port: "main"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(at(db, number)); got != "new.default:main" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := h.Set(db, nil); err != nil || h.Sockets() != 1 || len(h.Addresses()) != 1 {
		t.Errorf("%d sockets are left, %v", h.Sockets(), err)
	}
	_ = h.Close()
	_ = h.Close()
	wait()
	if _, err := ask(at(web, other)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Close: %v", err)
	}
	if err := h.Set(web, map[virtual.Port]virtual.Target{{Number: other}: {Key: key("web")}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Set after Close: %v", err)
	}
}

func TestATakenPortLeavesTheOthers(t *testing.T) {
	h := virtual.NewHub(virtual.HubOptions{Range: netip.MustParsePrefix("127.77.0.0/16"), Sockets: 2})
	wait := greet(h)
	defer func() { _ = h.Close(); wait() }()
	taken, free := freePort(t), freePort(t)
	a := netip.MustParseAddr("127.77.3.4")
	own, err := net.Listen("tcp", netip.AddrPortFrom(a, taken).String())
	if err != nil {
		t.Fatal(err)
	}
	ports := map[virtual.Port]virtual.Target{{Number: taken}: {Key: key("web"), Port: "x"}, {Number: free}: {Key: key("web"), Port: "y"}}
	err = h.Set(a, ports)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "web.default") || !h.Listens(key("web"), a) || h.Sockets() != 1 {
		t.Fatalf("%v, %d sockets", err, h.Sockets())
	}
	_ = own.Close()
	if err := h.Set(a, ports); err != nil || h.Sockets() != 2 { // it is free now
		t.Fatalf("%v, %d sockets", err, h.Sockets())
	}
	if err := h.Set(a.Next(), ports); !errors.Is(err, virtual.ErrTooMany) {
		t.Errorf("beyond the bound: %v", err)
	}
}
