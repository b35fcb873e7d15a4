package generation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// First opens the socket of the first process at address: slot 0. A port that anybody
// has is an error, also where that were a process that would share it. One that cannot
// be steered here is open all the same.
func First(address string) (*net.UDPConn, error) {
	for try := 0; ; try++ {
		alone, err := net.ListenPacket("udp", address)
		if err != nil {
			return nil, err
		}
		at := alone.LocalAddr().String() // the system may have chosen the port
		_ = alone.Close()                // nobody knows of it
		conn, err := share(at)
		if errors.Is(err, syscall.EADDRINUSE) && at != address && try < 8 {
			continue // somebody was given the port meanwhile
		}
		if err != nil {
			return nil, err
		}
		// From the start, so that no packet goes to a socket that another program
		// of the user puts beside it.
		_ = Steer(conn, Live(0).With(0), 0)
		return conn, nil
	}
}

// Successor opens the next socket at the address of conn, which is steered: packets
// come to it when the next program says so.
func Successor(conn *net.UDPConn) (*net.UDPConn, error) { return share(conn.LocalAddr().String()) }

func share(address string) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
	c, err := lc.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		_ = c.Close() // it is none of ours
		return nil, fmt.Errorf("%s: is no UDP address", address)
	}
	return conn, nil
}

// Steer sends the packets of all sockets beside conn, and its own, to the processes of
// live that they are for, and those of nobody to newest. It replaces what was said
// before, in one step.
func Steer(conn syscall.Conn, live Live, newest Slot) error {
	raw, err := bpf.Assemble(program(live, newest))
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	err = control(rc, func(fd int) error {
		fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog)
	})
	if err != nil {
		return fmt.Errorf("packets cannot be steered (SO_ATTACH_REUSEPORT_CBPF): %w", err)
	}
	return nil
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
