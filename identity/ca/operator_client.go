package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// operatorTimeout bounds one question to the CA on the same host.
const operatorTimeout = 30 * time.Second

// AskOperator asks the CA that serves a directory at its operator's socket. An
// error with a status above zero is the CA's refusal.
func AskOperator(ctx context.Context, dir, method, path string, in, out any) (status int, err error) {
	client := &http.Client{Timeout: operatorTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", OperatorSocket(dir))
		},
	}}
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://ca"+path, body)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer := io.LimitReader(resp.Body, maxHostsBytes)
	if resp.StatusCode != http.StatusOK {
		var p Problem
		_ = json.NewDecoder(answer).Decode(&p)
		return resp.StatusCode, fmt.Errorf("the ca refuses: %s", p.Detail)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.NewDecoder(answer).Decode(out)
}
