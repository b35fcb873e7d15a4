package gcptest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
)

// batch answers several requests in one, which is how gcloud asks for more than
// one thing: each part is a request, and is answered as if it had come alone.
func (s *Server) batch(w http.ResponseWriter, r *http.Request) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		s.Report(fmt.Errorf("a batch without its type: %w", err))
		return
	}
	var answers bytes.Buffer
	out := multipart.NewWriter(&answers)
	parts := multipart.NewReader(r.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			break // the end
		}
		text, err := io.ReadAll(part)
		if err != nil {
			s.Report(fmt.Errorf("a part of a batch: %w", err))
			return
		}
		// A part may leave out the version of HTTP.
		line, rest, _ := strings.Cut(string(text), "\n")
		if !strings.Contains(line, " HTTP/") {
			line = strings.TrimRight(line, "\r") + " HTTP/1.1"
		}
		inner, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line + "\n" + rest)))
		if err != nil {
			s.Report(fmt.Errorf("a part of a batch: %w", err))
			return
		}
		inner.URL.RawQuery = foreign(inner.URL.Query()).Encode()
		answer := httptest.NewRecorder()
		s.serve(answer, inner)
		to, err := out.CreatePart(textproto.MIMEHeader{
			"Content-Type": {"application/http"},
			"Content-Id":   {"<response-" + strings.TrimPrefix(part.Header.Get("Content-Id"), "<")},
		})
		if err == nil {
			err = answer.Result().Write(to)
		}
		if err != nil {
			s.Report(fmt.Errorf("an answer of a batch: %w", err))
			return
		}
	}
	_ = out.Close()
	w.Header().Set("Content-Type", "multipart/mixed; boundary="+out.Boundary())
	_, _ = w.Write(answers.Bytes())
}
