package handover

import (
	"encoding/json"
	"net"
	"os"
	"syscall"
	"time"
)

// Pulse is how a process that has a successor lets those after it know of it.
type Pulse struct {
	conn net.Conn
	far  *os.File
}

// NewPulse makes a pulse of this process.
func NewPulse() (*Pulse, error) {
	// Each word is whole, whoever of the successors hears it.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	own := os.NewFile(uintptr(pair[0]), "pulse")
	far := os.NewFile(uintptr(pair[1]), "pulse")
	conn, err := net.FileConn(own)
	_ = own.Close() // conn has its own descriptor
	if err != nil {
		_ = far.Close() // it was of no use
		return nil, err
	}
	return &Pulse{conn: conn, far: far}, nil
}

// Far is the end that successors get.
func (p *Pulse) Far() *os.File { return p.far }

// Close ends the pulse, as the end of the process does.
func (p *Pulse) Close() { _ = p.conn.Close() } // nothing more is to be said

// Say tells how this process fares; what nobody listens to is dropped.
func (p *Pulse) Say(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) // fails only on a closed one
	_, _ = p.conn.Write(data)                                          // the next one says more
}

// Listen calls heard with each word of the process whose far end f is, until that has
// ended (true) or stop is closed (false). f is left open.
func Listen(f *os.File, stop <-chan struct{}, heard func(json.RawMessage)) (ended bool) {
	conn, err := net.FileConn(f)
	if err != nil {
		return true // it is no end of anything
	}
	defer func() { _ = conn.Close() }()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // ends the read
		case <-done:
		}
	}()
	for b := make([]byte, 4096); ; {
		n, err := conn.Read(b)
		if err != nil {
			select {
			case <-stop:
				return false
			default:
				return true
			}
		}
		heard(b[:n])
	}
}
