package history_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/history"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{`{"a":1}`, `{"a":1}`, ``},
		{`{"a":1,"b":{"c":[1,2]}}`, `{"a":2,"b":{"c":[1,3,4]}}`, `/a 1>2, /b/c/1 2>3, /b/c/2 >4`},
		{`{"a":{"x":1}}`, `{}`, `/a {"x":1}>`},
		{``, `{"a":1}`, ` >{"a":1}`},
		{`{"a":1}`, ``, ` {"a":1}>`},
		{`{"a/b":1,"m~n":1}`, `{"a/b":2,"m~n":2}`, `/a~1b 1>2, /m~0n 1>2`},
		{`{"a":[1]}`, `{"a":{"0":1}}`, `/a [1]>{"0":1}`},
		{`{"a":null}`, `{}`, `/a null>`},
		{`{"n":12345678901234567890}`, `{"n":12345678901234567891}`, `/n 12345678901234567890>12345678901234567891`},
		{`no json`, `{}`, ` "no json">{}`},
	} {
		var before, after []byte
		if c.before != "" {
			before = []byte(c.before)
		}
		if c.after != "" {
			after = []byte(c.after)
		}
		var got []string
		for _, d := range history.Diff(before, after) {
			got = append(got, fmt.Sprintf("%s %s>%s", d.Path, d.Before, d.After))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("Diff(%s, %s) = %s, want %s", c.before, c.after, s, c.want)
		}
	}
}
