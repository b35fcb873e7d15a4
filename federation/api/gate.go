package api

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	// requestIDHeader names each answer: the audit log and the history have it too.
	requestIDHeader = "Isthmus-Request-Id"
	// reasonHeader and reasonParameter say why a change is made.
	reasonHeader    = "Isthmus-Reason"
	reasonParameter = "reason"
)

// gate lets in who is authenticated, asks no more than he may, and has a role
// that covers the operation. What it passes on carries a Principal.
func (s *Server) gate(way Way, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		w.Header().Set(requestIDHeader, id)
		if open(r.URL.Path) && way == Loopback {
			next.ServeHTTP(w, r)
			return
		}
		p, cred, no := s.auth.who(way, r)
		if no != nil {
			s.metrics.refused.WithLabelValues(way.String(), string(no.code)).Inc()
			if no.challenge != "" {
				w.Header().Set("WWW-Authenticate", no.challenge)
			}
			if no.status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "10")
			}
			writeProblem(w, no.status, no.code, "%s", no.detail)
			return
		}
		if wait, ok := s.limiter.take(p); !ok {
			s.metrics.refused.WithLabelValues(way.String(), string(CodeRateLimited)).Inc()
			seconds := int64(max(1, (wait+time.Second-1)/time.Second))
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
			writeProblem(w, http.StatusTooManyRequests, CodeRateLimited, "%s asks more often than it may; the next request is due in %v", p.Name, wait.Round(time.Millisecond))
			return
		}
		op := s.operationOf(r)
		if op != nil && !p.Role.Allows(roleOf(op)) {
			s.metrics.refused.WithLabelValues(way.String(), string(CodeForbidden)).Inc()
			s.log.Info("request refused", "principal", p.Name, "path", r.URL.Path, "reason", "role")
			if writes(op) {
				s.auditRefusal(r, op, p, id)
			}
			writeProblem(w, http.StatusForbidden, CodeForbidden, "%s needs the role %s; %s has %s", op.OperationID, roleOf(op), p.Name, p.Role)
			return
		}
		ctx := WithPrincipal(r.Context(), p)
		ctx = context.WithValue(ctx, credentialKey{}, cred)
		if op != nil && writes(op) {
			reason, bad := takeReason(r)
			if bad != "" {
				writeProblem(w, http.StatusUnprocessableEntity, CodeInvalid, "%s", bad)
				return
			}
			author := store.Author{Principal: p.Name, Reason: reason, RequestID: id}
			ctx = store.WithAuthor(ctx, author)
			s.serveWrite(w, r.WithContext(ctx), &write{op: op, principal: p, author: author}, next)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// writes reports whether an operation changes something.
func writes(op *huma.Operation) bool {
	return op.Method != http.MethodGet && op.Method != http.MethodHead
}

// operationOf is the operation that the mux will choose, or nil.
func (s *Server) operationOf(r *http.Request) *huma.Operation {
	_, pattern := s.mux.Handler(r)
	return s.operations[pattern]
}

// takeReason reads why a change is made, and takes the parameter out of the
// query: every write has it, and none has to name it.
func takeReason(r *http.Request) (reason, bad string) {
	reason = r.Header.Get(reasonHeader)
	if strings.Contains(r.URL.RawQuery, reasonParameter) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return "", "the query is malformed"
		}
		if query.Has(reasonParameter) {
			if reason == "" {
				reason = query.Get(reasonParameter)
			}
			query.Del(reasonParameter)
			u := *r.URL
			u.RawQuery = query.Encode()
			r.URL = &u
		}
	}
	if len(reason) > store.MaxReason {
		return "", "the reason has " + strconv.Itoa(len(reason)) + " bytes, at most " + strconv.Itoa(store.MaxReason)
	}
	if strings.ContainsFunc(reason, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }) {
		return "", "the reason must be one line of text"
	}
	return reason, ""
}
