package estate

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// What waits for packets waits for all that come to a socket, whichever copy of it they
// are read from. So copies that are only kept are descriptors: no event wakes for them.

// descriptor is f's number. Not Fd, which would make the socket blocking, here and for
// whoever shares it.
func descriptor(f syscall.Conn) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// duplicate returns another descriptor of the same socket.
func duplicate(f syscall.Conn) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := raw.Control(func(n uintptr) { fd, err = copyOf(int(n)) }); cerr != nil {
		return 0, cerr
	}
	return fd, err
}

// copyOf duplicates a descriptor that children do not inherit.
func copyOf(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dup, err := syscall.Dup(fd)
	if err != nil {
		return 0, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(dup)
	return dup, nil
}

// udp is a connection with a descriptor of its own of the same socket.
func udp(fd int) (*net.UDPConn, error) {
	dup, err := copyOf(fd)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "udp")
	defer func() { _ = f.Close() }() // the connection has its own
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		_ = c.Close() // it is none of ours
		return nil, fmt.Errorf("the socket is not of UDP but %T", c)
	}
	return conn, nil
}

func closeDescriptor(fd int) { _ = syscall.Close(fd) } // a copy that nobody uses
