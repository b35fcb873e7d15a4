package ca

import (
	"net"
	"syscall"
)

// peerOf asks the kernel who connected the other end: it remembers the credentials
// of the process that called connect, whatever the process says.
func peerOf(conn *net.UnixConn) (caller, error) {
	var cred *syscall.Ucred
	err := control(conn, func(fd int) (err error) {
		cred, err = syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		return err
	})
	if err != nil {
		return caller{}, err
	}
	return caller{uid: cred.Uid, pid: cred.Pid}, nil
}
