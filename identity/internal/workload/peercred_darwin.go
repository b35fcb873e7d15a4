package workload

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who connected the other end, by the two options that
// getpeereid(3) and its like are made of.
func peerOf(conn *net.UnixConn) (Caller, error) {
	var cred *unix.Xucred
	var pid int
	err := control(conn, func(fd int) (err error) {
		if cred, err = unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err != nil {
			return err
		}
		pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return err
	})
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: cred.Uid, PID: int32(pid)}, nil
}
