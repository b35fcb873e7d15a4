package awstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// How tells how to get moto.
const How = "moto emulates AWS; pip install 'moto[server]==5.2.1' (any 5.2)"

// startWithin is generous: it takes three seconds on an idle machine.
const startWithin = 90 * time.Second

// Moto is one server.
type Moto struct {
	// URL is its endpoint, for every API.
	URL string

	cmd    *exec.Cmd
	exited chan struct{}
}

var running = regexp.MustCompile(`Running on (http://127\.0\.0\.1:[0-9]+)`)

// StartMoto runs the program at bin (moto_server) on 127.0.0.1; port 0 takes a free
// one.
func StartMoto(ctx context.Context, bin string, port int) (*Moto, error) {
	cmd := exec.Command(bin, "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	// The program may be a script that starts Python: both are to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start moto: %w", err)
	}
	m := &Moto{cmd: cmd, exited: make(chan struct{})}
	found := make(chan string, 1)
	go func() {
		defer close(m.exited)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if url := running.FindStringSubmatch(lines.Text()); url != nil {
				found <- url[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // its log of requests
		_ = cmd.Wait()                  // it is killed
	}()
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case m.URL = <-found:
		return m, nil
	case <-m.exited:
		err = errors.New("it ended")
	case <-timer.C:
		err = fmt.Errorf("not ready within %v", startWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.Stop()
	return nil, fmt.Errorf("start moto: %w", err)
}

// Stop kills the server and waits for its end.
func (m *Moto) Stop() {
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-m.exited
}

// Version asks the Python that is first in PATH which moto it has.
func Version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "python3", "-c", "import importlib.metadata as m; print(m.version('moto'))").Output()
	if err != nil {
		return "moto of an unknown version"
	}
	return "moto " + strings.TrimSpace(string(out))
}

// HoldTasks lets tasks of ECS run on: moto ends one after some looks at it.
func (m *Moto) HoldTasks(ctx context.Context) error {
	return m.post(ctx, "/moto-api/state-manager/set-transition",
		`{"model_name":"ecs::task","transition":{"progression":"manual","times":1000000000}}`)
}

func (m *Moto) post(ctx context.Context, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("moto answers %s", resp.Status)
	}
	return nil
}
