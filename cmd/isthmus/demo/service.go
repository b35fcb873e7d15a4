package demo

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Answer is what a demo service says to every request.
type Answer struct {
	Service  string `json:"service"`
	Cluster  string `json:"cluster"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
	// Caller is the SPIFFE ID that the destination gateway vouched for, "" when
	// the call came by a byte stream.
	Caller string `json:"caller"`
}

// ServiceOptions of RunService.
type ServiceOptions struct {
	Answer Answer
	Listen netip.AddrPort
}

// RunService serves the answer over HTTP until ctx ends.
func RunService(ctx context.Context, o ServiceOptions) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Listen.String())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := o.Answer
			a.Caller = callerOf(r.Header.Get("X-Forwarded-Client-Cert"))
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(a) // the caller went away: nobody left to tell
		}),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(grace)
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// callerOf reads the URI of the last element of X-Forwarded-Client-Cert, which
// is the one that the nearest gateway wrote.
func callerOf(xfcc string) string {
	last := xfcc[strings.LastIndex(xfcc, ",")+1:]
	for pair := range strings.SplitSeq(last, ";") {
		if uri, ok := strings.CutPrefix(strings.TrimSpace(pair), "URI="); ok {
			return uri
		}
	}
	return ""
}
