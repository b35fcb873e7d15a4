package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// Whatever bit of whatever byte flips, the body is read and the damage is told.
func TestOneFlippedBit(t *testing.T) {
	for _, body := range []string{"", "b", "line one\nline two", strings.Repeat("0123456789", 20)} {
		sealed := durable.Seal("kind 1", []byte(body))
		for i := range sealed {
			for bit := range 8 {
				flipped := bytes.Clone(sealed)
				flipped[i] ^= 1 << bit
				got, damage, err := durable.Open("kind 1", flipped)
				if err != nil || string(got) != body || !errors.Is(damage, durable.ErrCorrupt) {
					t.Fatalf("byte %d, bit %d of %q: %q, damage %v, %v", i, bit, body, got, damage, err)
				}
			}
		}
		for i := range sealed {
			if _, _, err := durable.Open("kind 1", sealed[:i]); i != len(sealed)/2 && !errors.Is(err, durable.ErrCorrupt) {
				t.Fatalf("cut at %d of %q: %v", i, body, err)
			}
		}
	}
}

func TestOneByteOfEachCopyIsTooMuch(t *testing.T) {
	sealed := durable.Seal("kind 1", []byte("body"))
	sealed[3] ^= 1
	sealed[len(sealed)-1] ^= 1
	if body, _, err := durable.Open("kind 1", sealed); !errors.Is(err, durable.ErrCorrupt) {
		t.Errorf("got %q, %v", body, err)
	}
}

// What an older version wrote has one copy.
func TestOneCopyIsTaken(t *testing.T) {
	sealed := durable.Seal("kind 1", []byte("body"))
	if body, damage, err := durable.Open("kind 1", sealed[:len(sealed)/2]); err != nil || damage != nil || string(body) != "body" {
		t.Errorf("got %q, %v, %v", body, damage, err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("kind", []byte("body"))
	f.Add("kind", durable.Seal("kind", []byte("body")))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		if body, damage, err := durable.Open(kind, data); err == nil && damage == nil {
			if sealed := durable.Seal(kind, body); !bytes.Equal(sealed, data) && !bytes.Equal(sealed[:len(sealed)/2], data) {
				t.Fatal("opened what was not sealed")
			}
		}
		if strings.ContainsRune(kind, '\n') {
			return
		}
		got, damage, err := durable.Open(kind, durable.Seal(kind, data))
		if err != nil || damage != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %q, %v, %v", got, damage, err)
		}
		if _, _, err := durable.Open(kind+"x", durable.Seal(kind, data)); !errors.Is(err, durable.ErrCorrupt) {
			t.Fatalf("got %v", err)
		}
	})
}

func ExampleOpen() {
	data := durable.Seal("greeting 1", []byte("hello"))
	data[0] ^= 1
	body, damage, err := durable.Open("greeting 1", data)
	fmt.Printf("%s, damaged: %t, %v\n", body, damage != nil, err)
	// Output: hello, damaged: true, <nil>
}
