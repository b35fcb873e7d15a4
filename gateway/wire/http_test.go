package wire_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestHeaderAsHTTPFields(t *testing.T) {
	want := fullHeader()
	fields := http.Header{"Accept": {"*/*"}, "Isthmus-Caller": {"spiffe://a.test/forged"}, "Isthmus-Future": {"x"}, "isthmus_caller": {"y"}}
	if err := want.SetHTTP(fields); err != nil {
		t.Fatal(err)
	}
	if _, ok := map[string][]string(fields)["isthmus_caller"]; ok || fields.Get("Isthmus-Future") != "" {
		t.Errorf("a field from outside is left: %v", fields)
	}
	got, err := wire.HeaderFromHTTP(fields)
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	wire.StripHTTP(fields)
	if len(fields) != 1 || fields.Get("Accept") != "*/*" {
		t.Errorf("after stripping: %v", fields)
	}
	small := wire.Header{Service: "a.b"}
	if err := small.SetHTTP(fields); err != nil || len(fields) != 2 {
		t.Errorf("fields that say nothing were sent: %v, %v", fields, err)
	}
	if err := (&wire.Header{}).SetHTTP(fields); err == nil {
		t.Error("a header without service was sent")
	}
}

func TestMalformedHTTPFields(t *testing.T) {
	for name, change := range map[string]func(http.Header){
		"no service":             func(h http.Header) { h.Del(wire.FieldService) },
		"empty service":          func(h http.Header) { h.Set(wire.FieldService, "") },
		"two services":           func(h http.Header) { h.Add(wire.FieldService, "c.d") },
		"space in caller":        func(h http.Header) { h.Set(wire.FieldCaller, "a b") },
		"unknown assurance":      func(h http.Header) { h.Set(wire.FieldAssurance, "sworn") },
		"assurance none":         func(h http.Header) { h.Set(wire.FieldAssurance, "none") },
		"deadline with sign":     func(h http.Header) { h.Set(wire.FieldDeadline, "+5") },
		"deadline with zeros":    func(h http.Header) { h.Set(wire.FieldDeadline, "05") },
		"deadline zero":          func(h http.Header) { h.Set(wire.FieldDeadline, "0") },
		"deadline of a year":     func(h http.Header) { h.Set(wire.FieldDeadline, "31536000000") },
		"deadline not a number":  func(h http.Header) { h.Set(wire.FieldDeadline, "soon") },
		"attempt above its size": func(h http.Header) { h.Set(wire.FieldAttempt, "256") },
		"hash above its size":    func(h http.Header) { h.Set(wire.FieldHash, "4611686018427387904") },
		"space in the subset":    func(h http.Header) { h.Set(wire.FieldSubset, "version=v 2") },
		"two subsets":            func(h http.Header) { h.Add(wire.FieldSubset, "version=v3") },
	} {
		fields := make(http.Header)
		h := fullHeader()
		if err := h.SetHTTP(fields); err != nil {
			t.Fatal(err)
		}
		change(fields)
		got, err := wire.HeaderFromHTTP(fields)
		if _, ok := errors.AsType[*wire.ParseError](err); !ok {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestReplyAsHTTPFields(t *testing.T) {
	for _, c := range []struct{ in, want wire.Reply }{
		{
			wire.Reply{Status: wire.Overloaded, Message: "try later", RetryAfter: 1500 * time.Millisecond},
			wire.Reply{Status: wire.Overloaded, Message: "try later", RetryAfter: 1500 * time.Millisecond},
		},
		{wire.Reply{Status: 99}, wire.Reply{Status: wire.Internal}},
		{wire.Reply{Status: wire.Denied, Message: "a\r\nSet-Cookie: x"}, wire.Reply{Status: wire.Denied}},
		{wire.Reply{Status: wire.Denied, Message: " padded"}, wire.Reply{Status: wire.Denied}},
	} {
		fields := http.Header{wire.FieldStatus: {"ok"}}
		c.in.SetHTTP(fields)
		got, ok, err := wire.ReplyFromHTTP(fields)
		if !ok || err != nil || got != c.want {
			t.Errorf("%+v became %+v, %v, %v", c.in, got, ok, err)
		}
	}
	if _, ok, err := wire.ReplyFromHTTP(http.Header{}); ok || err != nil {
		t.Errorf("no fields: %v, %v", ok, err)
	}
	for name, fields := range map[string]http.Header{
		"unknown status": {wire.FieldStatus: {"fine"}},
		"two statuses":   {wire.FieldStatus: {"ok", "denied"}},
		"long wait":      {wire.FieldStatus: {"overloaded"}, wire.FieldRetryAfter: {"999999999"}},
		"odd message":    {wire.FieldStatus: {"overloaded"}, wire.FieldMessage: {"a\x00"}},
	} {
		if _, ok, err := wire.ReplyFromHTTP(fields); ok || err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
