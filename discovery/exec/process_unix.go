//go:build unix

package exec

import (
	osexec "os/exec"
	"syscall"
)

// ownGroup puts the command in a process group of its own, so that its children
// end with it.
func ownGroup(cmd *osexec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// endGroup asks the group to end, or with force makes it. A group that is gone is
// no error.
func endGroup(cmd *osexec.Cmd, force bool) {
	sig := syscall.SIGTERM
	if force {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-cmd.Process.Pid, sig) // ESRCH: nobody is left
}

func signalOf(state interface{ Sys() any }) string {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal().String()
	}
	return ""
}
