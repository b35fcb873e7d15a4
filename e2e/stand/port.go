package stand

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The ports of scenarios are below those that kernels hand out by themselves (from
// 32768 on Linux, from 49152 on macOS): nobody gets one between now and the start
// of the process that is told it. They are cut into blocks, since several test
// processes run at once.
const (
	firstPort  = 12_000
	blockPorts = 500
	blocks     = 20
)

// claimed is this process's block: its first port, and how many were handed out.
type claimed struct {
	first uint16
	used  atomic.Uint32
	lock  *os.File // held open: a collected one would drop the lock
}

// block claims a block for as long as this process lives, by a lock that the
// kernel drops with it.
var block = sync.OnceValues(func() (*claimed, error) {
	for n := range uint16(blocks) {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-ports-%d.lock", n))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return &claimed{first: firstPort + n*blockPorts, lock: f}, nil
		}
		_ = f.Close()
	}
	return nil, errors.New("every block of ports is claimed by another test process")
})

// FreePort is a loopback port that is free now, for TCP and UDP, and that no other
// call in any process is given.
func FreePort(t testing.TB) netip.AddrPort {
	t.Helper()
	b, err := block()
	if err != nil {
		t.Fatal(err)
	}
	for range blockPorts {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), b.first+uint16((b.used.Add(1)-1)%blockPorts))
		ln, err := net.Listen("tcp", a.String())
		if err != nil {
			continue
		}
		pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		if err == nil {
			_ = pc.Close()
		}
		_ = ln.Close()
		if err == nil {
			return a
		}
	}
	t.Fatal("no free loopback port")
	return netip.AddrPort{}
}
