package handover_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/internal/handover"
)

// role is what this program does when it is started as a successor.
const role = "HANDOVER_TEST_ROLE"

func TestMain(m *testing.M) {
	i, err := handover.Inherit()
	if err != nil {
		panic(err)
	}
	if i == nil {
		goleak.VerifyTestMain(m)
		return
	}
	os.Exit(succeed(i, os.Getenv(role))) //nolint:forbidigo // here the test binary is the successor, and its exit code is tested
}

// succeed is a successor: it answers at the listener that it was handed.
func succeed(i *handover.Inheritance, how string) int {
	var word string
	if err := i.State(&word); err != nil || word != "state" {
		i.Failed(errors.New("the state is not what was said"))
		return 1
	}
	switch how {
	case "fails":
		i.Failed(errors.New("it cannot"))
		return 1
	case "crashes":
		return 7
	case "hangs":
		i.Waiting("godot")
		time.Sleep(time.Hour)
	}
	fd, ok := i.Take("listener")
	if _, again := i.Take("listener"); !ok || again {
		i.Failed(errors.New("the listener is not there, or is there twice"))
		return 1
	}
	f := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(f)
	if err != nil {
		i.Failed(err)
		return 1
	}
	if n := i.Close(); n != 1 {
		i.Failed(errors.New("what was not taken was not one file"))
		return 1
	}
	if err := i.Ready(context.Background()); err != nil {
		i.Failed(err)
		return 1
	}
	if how == "dies" {
		return 8
	}
	i.Serving()
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	_, _ = io.WriteString(c, "successor")
	_ = c.Close()
	return 0
}

func start(t *testing.T, how string) (*handover.Successor, *net.TCPListener) {
	t.Helper()
	t.Setenv(role, how)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var s *handover.Successor
	if cerr := raw.Control(func(fd uintptr) {
		s, err = handover.Start(handover.Command{Path: os.Args[0], Args: os.Args[:1]},
			[]handover.File{{Name: "listener", FD: int(fd)}, {Name: "other", FD: int(fd)}}, "state")
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return s, l
}

func TestASuccessorServes(t *testing.T) {
	s, l := start(t, "serves")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := net.Dial("tcp", l.Addr().String()) // waits to be accepted, by whomever
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Go(ctx); err != nil {
		t.Fatal(err)
	}
	s.Release()
	_ = l.Close() // the successor has it
	if b, err := io.ReadAll(c); err != nil || string(b) != "successor" {
		t.Errorf("%q, %v", b, err)
	}
	_ = syscall.Kill(s.PID(), syscall.SIGKILL)
}

func TestASuccessorThatDoesNotServe(t *testing.T) {
	for how, want := range map[string]string{
		"fails": "it cannot", "crashes": "it ended: exit status 7", "hangs": "it was late: it waits for godot", "dies": "it ended: exit status 8",
	} {
		t.Run(how, func(t *testing.T) {
			s, _ := start(t, how)
			within := time.Minute
			if how == "hangs" {
				within = 2 * time.Second
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), within, errors.New("it was late"))
			defer cancel()
			err := s.Ready(ctx)
			if err == nil {
				err = s.Go(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			s.Kill()
			if err := syscall.Kill(s.PID(), 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", s.PID(), err)
			}
		})
	}
	if _, err := handover.Start(handover.Command{Path: "/nowhere/isthmus"}, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}

func TestPulse(t *testing.T) {
	p, err := handover.NewPulse()
	if err != nil {
		t.Fatal(err)
	}
	words := make(chan string, 10)
	stop, ended := make(chan struct{}), make(chan bool, 1)
	listen := func() {
		ended <- handover.Listen(p.Far(), stop, func(word json.RawMessage) { words <- string(word) })
	}
	go listen()
	p.Say(map[string]int{"streams": 3})
	if w := <-words; w != `{"streams":3}` {
		t.Errorf("heard %s", w)
	}
	close(stop) // another one listens from now on
	if <-ended {
		t.Error("an end was heard that was none")
	}
	stop = make(chan struct{})
	go listen()
	p.Say(4)
	if w := <-words; w != "4" {
		t.Errorf("heard %s", w)
	}
	p.Close()
	if !<-ended {
		t.Error("the end was not heard")
	}
	_ = p.Far().Close()
}
