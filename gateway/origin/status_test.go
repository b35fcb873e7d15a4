package origin

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// TestWhatAPeerIsTold: enough to decide where to go, nothing of what is here.
func TestWhatAPeerIsTold(t *testing.T) {
	for reason, tt := range map[string]struct {
		denied  bool
		status  wire.Status
		message string
	}{
		route.ReasonUnknownService:    {false, wire.UnknownService, ""},
		route.ReasonNotExported:       {true, wire.UnknownService, ""},
		route.NotExported.String():    {false, wire.UnknownService, ""},
		attempt.ReasonNoTable:         {false, wire.UnknownService, ""},
		route.UnknownPort.String():    {false, wire.UnknownPort, ""},
		route.NoCandidate.String():    {false, wire.NoEndpoint, ""},
		route.FailClosed.String():     {false, wire.NoEndpoint, ""},
		route.ReasonDefaultDeny:       {true, wire.Denied, "default_deny"},
		route.ReasonDeniedByIntention: {true, wire.Denied, "denied_by_intention"},
		route.ReasonCallerNotAsserted: {true, wire.Denied, "caller_not_asserted"},
		route.ReasonCallerInvalid:     {true, wire.Denied, "caller_invalid"},
		route.ReasonUnknownPeer:       {true, wire.Denied, "unknown_peer"},
	} {
		got := ReplyTo(&attempt.Error{Reason: reason, Denied: tt.denied, Rule: "a-rule-of-ours"})
		if got.Status != tt.status || got.Message != tt.message {
			t.Errorf("%s: %+v", reason, got)
		}
	}
	// A call that was withdrawn in progress may have been executed: nobody may send it elsewhere.
	for _, reason := range []string{route.ReasonNotExported, route.ReasonUnknownService, string(route.NotImported)} {
		if got := ReplyTo(&attempt.Error{Reason: reason, Denied: true, Withdrawn: true}); got.Status != wire.Denied {
			t.Errorf("withdrawn as %s: %s", reason, got.Status)
		}
	}
	if got := ReplyTo(&attempt.Error{Reason: "refused", Attempts: 2, Status: wire.Refused}); got.Status != wire.Refused {
		t.Errorf("after attempts: %+v", got)
	}
}
