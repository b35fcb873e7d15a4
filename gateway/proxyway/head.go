package proxyway

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxHead bounds the head of a CONNECT request.
	maxHead = 8 << 10
	// maxFields bounds its fields.
	maxFields = 64
)

// errHead is what is no head of a CONNECT request.
var errHead = errors.New("is no head of HTTP/1.1")

// errMethod is a request that is none for a tunnel.
var errMethod = errors.New("only CONNECT is served here")

// head is a CONNECT request.
type head struct {
	authority string
	user      *user
}

// user is who a client says that it is.
type user struct{ name, password string }

// readHead reads a CONNECT request, by the letter of RFC 9112: no bare LF, no folded
// field, one Host that says the same as the target, and no content, which CONNECT has
// not and which another reader might take for a next request.
func readHead(r *bufio.Reader) (h head, err error) {
	left := maxHead
	line, err := readLine(r, &left)
	if err != nil {
		return h, err
	}
	method, rest, ok := strings.Cut(line, " ")
	if !ok || !isToken(method) {
		return h, fmt.Errorf("request line %.60q %w", line, errHead)
	}
	target, version, ok := strings.Cut(rest, " ")
	if !ok || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return h, fmt.Errorf("request line %.60q %w", line, errHead)
	}
	if method != "CONNECT" {
		return h, fmt.Errorf("method %.20q: %w", method, errMethod)
	}
	h.authority = target
	hosts := 0
	for range maxFields + 1 {
		if line, err = readLine(r, &left); err != nil {
			return h, err
		}
		if line == "" {
			if hosts != 1 && version == "HTTP/1.1" {
				return h, fmt.Errorf("%d host fields: %w", hosts, errHead)
			}
			return h, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) { // which is also a line that begins with a space
			return h, fmt.Errorf("field %.40q %w", name, errHead)
		}
		value = strings.Trim(value, " \t")
		switch lowerASCII(name) {
		case "host":
			if hosts++; hosts > 1 || !strings.EqualFold(value, target) {
				return h, fmt.Errorf("host %.60q beside target %.60q: %w", value, target, errHead)
			}
		case "content-length", "transfer-encoding":
			return h, fmt.Errorf("field %s: content of a CONNECT request %w", name, errHead)
		case "proxy-authorization":
			if h.user != nil {
				return h, fmt.Errorf("two proxy-authorization fields: %w", errHead)
			}
			h.user = basic(value)
		}
	}
	return h, fmt.Errorf("more than %d fields: %w", maxFields, errHead)
}

// readLine reads a line that ends in CRLF and has no other control character but tabs.
func readLine(r *bufio.Reader, left *int) (string, error) {
	line, err := r.ReadSlice('\n')
	if *left -= len(line); *left < 0 || errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("more than %d bytes: %w", maxHead, errHead)
	}
	if err != nil {
		return "", err
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return "", fmt.Errorf("a line that ends in LF alone: %w", errHead)
	}
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7F {
			return "", fmt.Errorf("a control character: %w", errHead)
		}
	}
	return string(line), nil
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// basic reads credentials of the scheme Basic (RFC 7617). Those of another scheme, or
// broken ones, are a user whom nobody knows.
func basic(value string) *user {
	scheme, encoded, _ := strings.Cut(value, " ")
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return &user{}
	}
	name, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return &user{}
	}
	return &user{name, password}
}
