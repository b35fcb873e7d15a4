package wire_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestTraceParent(t *testing.T) {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for value, sampled := range map[string]bool{
		"00-" + trace + "-" + span + "-01": true,
		"00-" + trace + "-" + span + "-00": false,
		"00-" + trace + "-" + span + "-03": true,
		"00-" + trace + "-" + span + "-fe": false,
		"00-" + trace + "-" + span + "-0b": true,
	} {
		got, ok := wire.ParseTraceParent(value)
		if !ok || got.TraceID != trace || got.SpanID != span || got.Sampled != sampled {
			t.Errorf("%s: %+v, %v", value, got, ok)
		}
		if again, ok := wire.ParseTraceParent(got.String()); !ok || again != got {
			t.Errorf("%s is written as %s", value, got)
		}
	}
	for _, value := range []string{
		"", "00", "01-" + trace + "-" + span + "-01", "00-" + strings.ToUpper(trace) + "-" + span + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01",
		"00-" + trace + "-" + span + "-0g", "00-" + trace + "-" + span + "-01-x", "00-" + trace + "_" + span + "-01",
	} {
		if got, ok := wire.ParseTraceParent(value); ok {
			t.Errorf("%q passes as %+v", value, got)
		}
	}
}

func TestRequestID(t *testing.T) {
	for value, valid := range map[string]bool{
		"a": true, "6ba7b810-9dad-11d1-80b4-00c04fd430c8": true, "Root=1-67891233-abcdef012345678912345678": true,
		strings.Repeat("x", wire.MaxRequestID): true, strings.Repeat("x", wire.MaxRequestID+1): false,
		"": false, "a b": false, "a\"b": false, "a\nb": false, "é": false, "a,b": false,
	} {
		if got := wire.ValidRequestID(value); got != valid {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func FuzzParseTraceParent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := wire.ParseTraceParent(s)
		if !ok {
			return
		}
		again, ok := wire.ParseTraceParent(got.String())
		if !ok || again != got || !wire.ValidTraceID(got.TraceID) {
			t.Errorf("%q is read as %+v", s, got)
		}
	})
}
