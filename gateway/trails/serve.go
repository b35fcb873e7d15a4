package trails

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Answer is the body of an answer to a question for trails.
type Answer struct {
	route.SavedTrails
	// Before is the mark to ask on by; 0: there is nothing before.
	Before uint64 `json:"before,omitempty"`
}

// ServeHTTP answers GET with trace=, request=, service=, limit=, before= and
// saved=. Who may ask is for the listener to say.
func (r *Ring) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q, field := queryOf(req.URL.Query())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if field != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"reason": "invalid", "message": field + " is not valid"})
		return
	}
	_ = json.NewEncoder(w).Encode(r.Find(q)) // whoever asked is gone, or has it
}

// queryOf returns the name of a field that is wrong, "" if none is.
func queryOf(v url.Values) (q Query, wrong string) {
	q.TraceID, q.RequestID = v.Get("trace"), v.Get("request")
	if q.TraceID != "" && !wire.ValidTraceID(q.TraceID) {
		return q, "trace"
	}
	if q.RequestID != "" && !wire.ValidRequestID(q.RequestID) {
		return q, "request"
	}
	var err error
	if s := v.Get("service"); s != "" {
		if q.Service, err = catalog.ParseServiceName(s); err != nil {
			return q, "service"
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > MaxFound {
			return q, "limit"
		}
	}
	if s := v.Get("before"); s != "" {
		if q.Before, err = strconv.ParseUint(s, 10, 64); err != nil {
			return q, "before"
		}
	}
	if s := v.Get("saved"); s != "" {
		if q.Saved, err = strconv.ParseBool(s); err != nil {
			return q, "saved"
		}
	}
	return q, ""
}
