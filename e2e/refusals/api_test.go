package refusals_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refuseAtTheAPI attacks the REST API of a running federation.
func (w *world) refuseAtTheAPI(t *testing.T) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.Dir, w.west.Name, "data", "*", "api.token"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the token: %v, %v", found, err)
	}
	token, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(token))
	send := func(t *testing.T, request string) int {
		t.Helper()
		c, err := net.Dial("tcp", w.west.API.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprint(c, request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	get := func(path, bearer string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: " + w.west.API.String() + "\r\nAuthorization: Bearer " + bearer + "\r\n\r\n"
	}
	if code := send(t, get("/v1/peers", secret)); code != http.StatusOK {
		t.Fatalf("the operator is answered %d", code)
	}
	for name, path := range map[string]string{
		"two slashes": "//v1/peers", "two slashes inside": "/v1//peers", "an escaped dot": "/v1/%2e/peers", "escaped dots": "/x/%2e%2e/v1/peers", "dot segments": "/x/../v1/peers",
		"a single dot": "/v1/./peers", "an escaped slash": "/v1%2fpeers", "an escaped letter": "/v1/p%65ers", "capitals": "/V1/peers", "a resource in capitals": "/v1/PEERS",
		"a final slash": "/v1/peers/", "a parameter": "/v1/peers;x", "a backslash": "/v1\\peers", "a null byte": "/v1/peers%00",
	} {
		refuse(t, "api, paths", "api/"+name, func(t *testing.T) {
			if code := send(t, get(path, secret)); code == http.StatusOK {
				t.Errorf("%s is answered %d", path, code)
			}
		})
	}
	for name, request := range map[string]string{
		"no token": "GET /v1/peers HTTP/1.1\r\nHost: x\r\n\r\n", "an empty token": get("/v1/peers", ""), "another token": get("/v1/peers", strings.Repeat("x", len(secret))),
		"the token's start": get("/v1/peers", secret[:len(secret)-1]), "the token and more": get("/v1/peers", secret+"x"), "another scheme": strings.Replace(get("/v1/peers", secret), "Bearer", "Basic", 1),
		"a token in the query": "GET /v1/peers?token=" + secret + "&access_token=" + secret + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"two tokens":           strings.Replace(get("/v1/peers", "x"), "\r\n\r\n", "\r\nAuthorization: Bearer "+secret+"\r\n\r\n", 1),
		"a foreign host":       strings.Replace(get("/v1/peers", secret), "Host: "+w.west.API.String(), "Host: evil.example", 1),
	} {
		refuse(t, "api, tokens", "api/"+name, func(t *testing.T) {
			if code := send(t, request); code == http.StatusOK {
				t.Error("it is answered")
			}
		})
	}
}
