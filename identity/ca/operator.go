package ca

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// operatorName is the operator's socket in Dir, with mode 0600: who may open it is
// who may read the CA's keys.
const operatorName = "operator.sock"

// OperatorSocket is the path of the operator's socket of the CA in a directory.
func OperatorSocket(dir string) string { return filepath.Join(dir, operatorName) }

// HostStatus is a host that has joined.
type HostStatus struct {
	Name    string    `json:"name"`
	Joined  time.Time `json:"joined"`
	Expires time.Time `json:"svid_expires"`
	Serial  string    `json:"svid_serial"`
	IDs     []string  `json:"ids"`
}

// TokenStatus is a token that nobody has used yet.
type TokenStatus struct {
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
}

// HostList is what the operator is told of hosts.
type HostList struct {
	Hosts  []HostStatus  `json:"hosts"`
	Tokens []TokenStatus `json:"tokens"`
}

// TokenRequest asks for a join token. IDs become entries of the host for UID
// (nil: the agent's own user), beside those of the configuration file.
type TokenRequest struct {
	Host       string   `json:"host"`
	TTLSeconds int64    `json:"ttl_seconds"`
	IDs        []string `json:"ids,omitempty"`
	UID        *uint32  `json:"uid,omitempty"`
}

// TokenAnswer is the token, which nobody can read again.
type TokenAnswer struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Problem is the body of an answer that is not 200.
type Problem struct {
	Detail string `json:"detail"`
}

// serveOperator serves the operator's socket until ctx ends.
func (c *CA) serveOperator(ctx context.Context) error {
	l, err := workload.Listen(OperatorSocket(c.cfg.Dir), workload.OwnOnly)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/tokens", c.makeToken)
	mux.HandleFunc("GET /v1/hosts", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, c.hostList()) })
	mux.HandleFunc("DELETE /v1/hosts/{name}", func(w http.ResponseWriter, r *http.Request) {
		known, err := c.hosts.revoke(r.PathValue("name"))
		switch {
		case err != nil:
			answer(w, http.StatusInternalServerError, Problem{err.Error()})
		case !known:
			answer(w, http.StatusNotFound, Problem{"no host of that name has joined or has a token"})
		default:
			answer(w, http.StatusOK, struct{}{})
		}
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: hostHeaderTimeout, ReadTimeout: hostReadTimeout, WriteTimeout: hostReadTimeout,
		MaxHeaderBytes: maxHostHeader, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	return serveUntil(ctx, srv, l)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (c *CA) makeToken(w http.ResponseWriter, r *http.Request) {
	var in TokenRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxHostHeader))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		answer(w, http.StatusBadRequest, Problem{err.Error()})
		return
	}
	var entries []hostEntry
	var errs []error
	for _, text := range in.IDs {
		id, err := spiffeid.FromString(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("id %q: %w", text, err))
		}
		entries = append(entries, hostEntry{ID: id, UID: in.UID})
	}
	err := errors.Join(errs...)
	var out TokenAnswer
	if err == nil {
		token, expires, terr := c.hosts.token(in.Host, time.Duration(in.TTLSeconds)*time.Second, entries)
		out.Expires, err = expires, terr
		if err == nil {
			out.Token, err = token.Encode()
		}
	}
	if err != nil {
		answer(w, http.StatusBadRequest, Problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, out)
}

func (c *CA) hostList() HostList {
	joined, pending := c.hosts.list()
	out := HostList{Hosts: []HostStatus{}, Tokens: []TokenStatus{}}
	v := c.view.Load()
	for _, r := range joined {
		s := HostStatus{Name: r.Name, Joined: r.Joined, Expires: r.Expires.UTC(), Serial: r.Serial, IDs: []string{}}
		entries, _ := c.hosts.entriesOf(v, r.Name)
		for _, e := range entries {
			s.IDs = append(s.IDs, e.ID.String())
		}
		out.Hosts = append(out.Hosts, s)
	}
	for _, t := range pending {
		out.Tokens = append(out.Tokens, TokenStatus{Host: t.Host, Expires: t.Expires.UTC()})
	}
	return out
}
