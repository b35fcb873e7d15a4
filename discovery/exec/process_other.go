//go:build !unix

package exec

import osexec "os/exec"

// ownGroup does nothing where there are no process groups: the command's own
// children have to end by themselves.
func ownGroup(*osexec.Cmd) {}

func endGroup(cmd *osexec.Cmd, force bool) {
	if force {
		_ = cmd.Process.Kill() // it may have ended
	}
}

func signalOf(interface{ Sys() any }) string { return "" }
