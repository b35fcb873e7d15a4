package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// StatusError is a server's refusal: an HTTP status that is no success, with the
// problem that explains it where the server sent one.
type StatusError struct {
	Status  int
	Problem resource.Problem
}

// Error says what the server said.
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
	if e.Problem.Detail != "" {
		b.WriteString(": " + e.Problem.Detail)
	}
	for _, f := range e.Problem.Errors {
		fmt.Fprintf(&b, "; %s: %s", f.Location, f.Message)
		if len(f.Value) > 0 {
			fmt.Fprintf(&b, " (value %s)", f.Value)
		}
	}
	return b.String()
}

// Code is the last part of the problem's type, what programs branch on: see
// resource.Problem. It is "" where the server sent no problem.
func (e *StatusError) Code() string {
	code, ok := strings.CutPrefix(e.Problem.Type, resource.ProblemPrefix)
	if !ok {
		return ""
	}
	return code
}

// statusError reads the problem out of resp; what is no problem document (the
// body of /readyz) becomes its detail.
func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil || json.Unmarshal(body, &e.Problem) != nil || e.Problem.Type == "" {
		e.Problem = resource.Problem{Detail: strings.TrimSpace(string(body[:min(len(body), 200)]))}
	}
	return e
}
