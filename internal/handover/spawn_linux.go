package handover

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// control is the descriptor of the socket in the successor, behind the standard ones.
const control = 3

// spawn starts the process. Raw descriptors, since os/exec would make what they are of
// blocking, here too: it is shared.
func spawn(c Command, fds []int) (own *os.File, process *os.Process, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	own = os.NewFile(uintptr(pair[0]), "handover")
	defer func() { _ = syscall.Close(pair[1]) }() // it is the successor's
	files := []uintptr{0, 1, 2, uintptr(pair[1])}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	env := make([]string, 0, len(os.Environ())+1)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, variable+"=") {
			env = append(env, e)
		}
	}
	pid, _, err := syscall.StartProcess(c.Path, c.Args, &syscall.ProcAttr{
		Env: append(env, variable+"="+strconv.Itoa(control)), Files: files,
	})
	if err != nil {
		_ = own.Close() // nobody is at the other end
		return nil, nil, &os.PathError{Op: "start", Path: c.Path, Err: err}
	}
	process, err = os.FindProcess(pid)
	return own, process, err
}

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }
