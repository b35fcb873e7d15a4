package demo

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the children (the supervisor
// stops them in order) and end them with the supervisor, even if it is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
