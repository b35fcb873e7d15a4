//go:build !linux

package demo

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the children: the supervisor
// stops them in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
