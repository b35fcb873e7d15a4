package workload

import (
	"net"
	"syscall"
)

// peerOf asks the kernel who connected the other end: it remembers the credentials
// of the process that called connect, whatever the process says.
func peerOf(conn *net.UnixConn) (Caller, error) {
	var cred *syscall.Ucred
	err := control(conn, func(fd int) (err error) {
		cred, err = syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		return err
	})
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: cred.Uid, PID: cred.Pid}, nil
}
