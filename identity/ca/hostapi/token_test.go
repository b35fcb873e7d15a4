package hostapi_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

func token() hostapi.Token {
	return hostapi.Token{
		Address: "10.0.0.5:7484", TrustDomain: "a.test", Host: "web-1", Secret: make([]byte, hostapi.SecretBytes),
		Roots: [][]byte{identitytest.NewCA("a.test").Certificate().Raw},
	}
}

func TestTokenSurvivesPaste(t *testing.T) {
	text, err := token().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := hostapi.ParseToken(" \n" + text + "\n")
	if err != nil || got.Host != "web-1" || got.Address != "10.0.0.5:7484" {
		t.Fatalf("got %+v, %v", got, err)
	}
	for cut := range len(text) {
		if _, err := hostapi.ParseToken(text[:cut]); !errors.Is(err, hostapi.ErrToken) {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(text), err)
		}
	}
}

func TestTokenProblems(t *testing.T) {
	for name, change := range map[string]func(*hostapi.Token){
		"no roots":              func(k *hostapi.Token) { k.Roots = nil },
		"roots of another name": func(k *hostapi.Token) { k.TrustDomain = "b.test" },
		"no domain":             func(k *hostapi.Token) { k.TrustDomain = "" },
		"no host":               func(k *hostapi.Token) { k.Host = "" },
		"a host of two parts":   func(k *hostapi.Token) { k.Host = "a/b" },
		"a short secret":        func(k *hostapi.Token) { k.Secret = k.Secret[1:] },
		"no address":            func(k *hostapi.Token) { k.Address = "" },
	} {
		k := token()
		change(&k)
		text, err := k.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hostapi.ParseToken(text); !errors.Is(err, hostapi.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHostNames(t *testing.T) {
	for name, want := range map[string]bool{
		"web1": true, "web-1": true, "web1.a.test": true, "1": true, strings.Repeat("a", 63): true,
		"": false, "Web1": false, "-a": false, "a-": false, "a..b": false, ".": false, "..": false, "a/b": false, "a b": false, "ä": false,
		strings.Repeat("a", 64): false, "a\n": false,
	} {
		if hostapi.ValidHost(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	text, err := token().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("isthmus-ca-1.e30")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := hostapi.ParseToken(text)
		if err != nil {
			return
		}
		if b, err := k.Bundle(); err != nil || len(b.Authorities) == 0 || !hostapi.ValidHost(k.Host) {
			t.Errorf("%q passed", text)
		}
	})
}
