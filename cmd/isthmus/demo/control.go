package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// controlFile tells `isthmus demo start` where the running demo listens.
const controlFile = "control.json"

type control struct {
	PID    int    `json:"pid"`
	Socket string `json:"socket"`
}

// serveControl lets another process of the same user start killed processes.
// It returns when ctx ends.
func serveControl(ctx context.Context, dir, socket string, start func(ctx context.Context, name string) ([]string, error)) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, ln.Close())
	}
	data, err := json.Marshal(control{PID: os.Getpid(), Socket: socket})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := replaceFile(filepath.Join(dir, controlFile), data, 0o600); err != nil {
		return errors.Join(err, ln.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		started, err := start(r.Context(), r.URL.Query().Get("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, strings.Join(started, "\n")+"\n")
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// StartProcess asks the demo that runs in dir to start what name means and
// returns what was started ("aws-us-east-1/billing pid 123").
func StartProcess(ctx context.Context, dir, name string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, controlFile))
	if err != nil {
		return nil, fmt.Errorf("no demo runs in %s: %w", dir, err)
	}
	var c control
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("read %s: %w", controlFile, err)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://demo/start?name="+url.QueryEscape(name), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the demo in %s (pid %d) does not answer: %w", dir, c.PID, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	text := string(bytes.TrimSpace(body))
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(text)
	}
	return strings.Split(text, "\n"), nil
}
