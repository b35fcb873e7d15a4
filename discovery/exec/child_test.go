//go:build unix

package exec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

// The test binary is also the command that the tests run.
const childMode = "ISTHMUS_EXEC_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(child(mode, os.Args[1:])) //nolint:forbidigo // here the test binary is the command, and its exit code is tested
	}
	goleak.VerifyTestMain(m)
}

// control is what a child obeys; it stands in a file that it reads all the time.
type control struct {
	// State is "ok", "fail" (reads fail), "cut" (reads break off), "exit" (the
	// same, and the child with it).
	State   string
	Content discoverytest.Content
}

func readControl(path string) (control, error) {
	var c control
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	return c, err
}

// child is the command; the result is its exit code.
func child(mode string, args []string) int {
	switch mode {
	case "serve": // with Serve, as isthmus-source does
		source := discovery.Poll(10*time.Millisecond, 0, func(context.Context) (*catalog.Snapshot, error) {
			c, err := readControl(args[0])
			if err == nil && c.State == "fail" {
				err = errors.New("cloud is down")
			}
			if err != nil {
				return nil, err
			}
			return catalog.NewSnapshot("mine", c.Content.Services())
		})
		if err := exec.Serve(context.Background(), exec.ServeOptions{
			Source: source, Out: os.Stdout, In: os.Stdin, Beat: 20 * time.Millisecond, FullEvery: 100 * time.Millisecond,
		}); !errors.Is(err, exec.ErrParentGone) {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "lines": // by hand, as a script would
		return lines(args[0])
	case "print": // prints its arguments and ends
		fmt.Print(strings.Join(args, "\n"))
		return 3
	case "hang": // says nothing, ignores the polite word
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "family": // has a child that would outlive it
		return family(args, false)
	case "stray": // has one that leaves the process group, and ends itself
		return family(args, true)
	case "hold": // lives while its connection does
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return 1
		}
		signal.Ignore(syscall.SIGTERM)
		_, _ = conn.Read(make([]byte, 1))
		return 0
	case "shout": // fills its standard error
		for i := range 10_000 {
			fmt.Fprintf(os.Stderr, "line %d\n", i)
		}
		fmt.Fprint(os.Stderr, strings.Repeat("x", 20_000))
		return 0
	case "env":
		env, err := json.Marshal(os.Environ())
		if err != nil {
			return 1
		}
		dir, _ := os.Getwd()
		fmt.Printf(`{"hello":{"version":1}}`+"\n"+`{"error":{"message":%q}}`+"\n", string(env)+dir)
		return 0
	}
	return 2
}

func lines(path string) int {
	first := true
	for last := ""; ; time.Sleep(10 * time.Millisecond) {
		c, err := readControl(path)
		if err != nil {
			continue
		}
		if first {
			fmt.Println(`{"hello":{"version":1}}`)
			first = false
		}
		switch now := c.State + c.Content.String(); {
		case c.State == "fail":
			fmt.Println(`{"error":{"message":"cloud is down"}}`)
		case c.State == "ok" && now == last:
			fmt.Println(`{"unchanged":{}}`)
		default:
			fmt.Println(`{"begin":{"full":true}}`)
			services, endpoints := c.Content.Services(), 0
			for i, s := range services {
				line, _ := json.Marshal(map[string]any{"service": s})
				fmt.Println(string(line))
				endpoints += len(s.Endpoints)
				if i == len(services)/2 && c.State == "exit" {
					return 1
				}
				if i == len(services)/2 && c.State == "cut" {
					fmt.Println(`{"error":{"message":"page 2 of 3: timeout"}}`)
					break
				}
			}
			if c.State == "ok" {
				last = now
				fmt.Printf(`{"commit":{"services":%d,"endpoints":%d}}`+"\n", len(services), endpoints)
			}
		}
	}
}

func family(args []string, stray bool) int {
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	cmd := osexec.Command(self, args...)
	cmd.Env = []string{childMode + "=hold"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if stray {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := cmd.Start(); err != nil {
		return 1
	}
	fmt.Println(`{"hello":{"version":1}}`)
	if stray {
		return 0
	}
	select {}
}

// command is a source that runs this binary.
func command(t *testing.T, mode string, o exec.Options, args ...string) *exec.Source {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Config.Name = "cmd"
	o.Config.Command = append([]string{self}, args...)
	o.Config.Env = append(o.Config.Env, childMode, "GOCOVERDIR")
	o.LookupEnv = func(name string) (string, bool) {
		switch name {
		case childMode:
			return mode, true
		case "GIVEN":
			return "value", true
		default:
			return os.LookupEnv(name)
		}
	}
	s, err := exec.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
