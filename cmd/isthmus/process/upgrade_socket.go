package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// maxUpgradeTimeout keeps a slip from blocking later upgrades for a day.
	maxUpgradeTimeout = time.Hour
	// upgradeSocket is in the gateway's data directory, which its own user can enter.
	upgradeSocket = "upgrade.sock"
	// maxSocketPath is what a Unix socket's address holds on every system.
	maxSocketPath = 100
)

// Upgraded is the answer to an upgrade by the socket.
type Upgraded struct {
	// PID and Generation are the successor's, Finishing the process that leaves.
	PID        int    `json:"pid,omitempty"`
	Generation int    `json:"generation,omitempty"`
	Finishing  int    `json:"finishing,omitempty"`
	Error      string `json:"error,omitempty"`
}

// serve answers at the socket until ctx ends. Whoever serves the gateway has the
// socket: a successor puts its own in the place of its predecessor's.
func (u *upgrader) serve(ctx context.Context) {
	select {
	case <-u.gateway.Serves():
	case <-ctx.Done():
		return
	}
	l, err := listenSocket(u.dir)
	if err != nil {
		u.log.Error("upgrades can be asked for by signal only", "path", u.dir, "err", err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		within, err := time.ParseDuration(r.FormValue("within"))
		if err != nil || within <= 0 || within > maxUpgradeTimeout {
			within = DefaultUpgradeTimeout
		}
		answer, status := Upgraded{Finishing: os.Getpid()}, http.StatusOK
		// Not of the request: whoever asked may go away, and it is done all the same.
		if answer.PID, err = u.upgrade(ctx, within); err != nil {
			answer, status = Upgraded{Error: err.Error()}, http.StatusConflict
		} else {
			answer.Generation = u.estate.Generation() + 1
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // whoever asked is gone, or has it
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		u.log.Error("upgrades can be asked for by signal only", "path", u.dir, "err", err)
	}
}

// listenSocket puts the socket in place.
func listenSocket(dir string) (net.Listener, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	next := path + "." + strconv.Itoa(os.Getpid())
	_ = os.Remove(next) // of a process of the same number, long ago
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it may be a successor's by then
	if err = os.Chmod(next, 0o600); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = l.Close() // nobody can reach it
		return nil, err
	}
	return l, nil
}

// socketPath is where the socket is. A path that is too long for an address is reached
// by its folder's descriptor, until done is called.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, upgradeSocket)
	if len(path)+len(".4194304") <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), upgradeSocket), func() { _ = d.Close() }, nil
}

// AskUpgrade asks the gateway whose data directory is given for its upgrade.
func AskUpgrade(ctx context.Context, dir string, within time.Duration) (Upgraded, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return Upgraded{}, err
	}
	defer done()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway/upgrade?within="+within.String(), http.NoBody)
	if err != nil {
		return Upgraded{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Upgraded{}, fmt.Errorf("no gateway answers in %s: %w", dir, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer Upgraded
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return Upgraded{}, fmt.Errorf("the gateway's answer (%s): %w", resp.Status, err)
	}
	if answer.Error != "" {
		return Upgraded{}, errors.New(answer.Error)
	}
	return answer, nil
}
