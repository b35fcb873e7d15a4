package httpway

import (
	"net/http"
	"strings"
	"testing"
)

func TestTraceParent(t *testing.T) {
	good := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	request := func(values ...string) *http.Request { return &http.Request{Header: http.Header{"Traceparent": values}} }
	if got := traceParent(request(good)); got != good {
		t.Errorf("%q", got)
	}
	for _, bad := range [][]string{nil, {""}, {good, good}, {good + "0"}, {strings.ToUpper(good)}, {strings.Replace(good, "-", "_", 1)}, {strings.Replace(good, "4", "\n", 1)}} {
		if got := traceParent(request(bad...)); got != "" {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
