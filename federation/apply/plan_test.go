package apply_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/apply"
	"pgregory.net/rapid"
)

func key(name string) apply.Key { return apply.Key{Kind: apply.Exports, Name: name} }

// fields makes a rule of "name=value" pairs.
func fields(pairs ...string) apply.Fields {
	f := apply.Fields{}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = json.RawMessage(fmt.Sprintf("%q", pairs[i+1]))
	}
	return f
}

func live(f apply.Fields) apply.Live { return apply.Live{Fields: f, ETag: `"7"`} }

func TestOneRule(t *testing.T) {
	a, b, c := fields("to", "a"), fields("to", "b"), fields("to", "c")
	fixed := apply.Live{Fields: a, Fixed: true}
	cases := map[string]struct {
		base, want apply.Fields
		live       *apply.Live
		force      bool
		action     apply.Action // "" is none
		after      apply.Fields
		conflict   string
	}{
		"new":                                        {want: a, action: apply.Create, after: a},
		"as it was applied":                          {base: a, want: a, live: &apply.Live{Fields: a}},
		"there already and the same":                 {want: a, live: &apply.Live{Fields: a}, action: apply.Adopt, after: a},
		"there already and different":                {want: a, live: &apply.Live{Fields: b}, conflict: "not made by this set"},
		"there already and different, forced":        {want: a, live: &apply.Live{Fields: b}, force: true, action: apply.Replace, after: a},
		"changed in the files":                       {base: a, want: b, live: &apply.Live{Fields: a}, action: apply.Replace, after: b},
		"changed by somebody else":                   {base: a, want: a, live: &apply.Live{Fields: b}},
		"changed by somebody else, forced":           {base: a, want: a, live: &apply.Live{Fields: b}, force: true, action: apply.Replace, after: a},
		"changed by both alike":                      {base: a, want: b, live: &apply.Live{Fields: b}, action: apply.Adopt, after: b},
		"changed by both differently":                {base: a, want: b, live: &apply.Live{Fields: c}, conflict: "changed in the files and by somebody else"},
		"gone from the files":                        {base: a, live: &apply.Live{Fields: a}, action: apply.Remove},
		"gone from the files, changed":               {base: a, live: &apply.Live{Fields: b}, conflict: "somebody else has changed it"},
		"gone from the files, changed, forced":       {base: a, live: &apply.Live{Fields: b}, force: true, action: apply.Remove},
		"gone from both":                             {base: a, action: apply.Forget},
		"never applied, not in the files":            {live: &apply.Live{Fields: a}},
		"removed by somebody else":                   {base: a, want: a, conflict: "was removed by somebody else"},
		"removed by somebody else, files changed":    {base: a, want: b, action: apply.Create, after: b},
		"of the config file, the same":               {want: a, live: &fixed},
		"of the config file, different":              {want: b, live: &fixed, conflict: "configuration file"},
		"of the config file, different, forced":      {want: b, live: &fixed, force: true, conflict: "configuration file"},
		"of the config file, gone from the files":    {base: a, live: &fixed, conflict: "configuration file"},
		"other fields changed by the two sides":      {base: fields("to", "a", "as", "x"), want: fields("to", "b", "as", "x"), live: &apply.Live{Fields: fields("to", "a", "as", "y")}, action: apply.Replace, after: fields("to", "b", "as", "y")},
		"one field added here, another one there":    {base: a, want: fields("to", "a", "as", "x"), live: &apply.Live{Fields: fields("to", "a", "cap", "1")}, action: apply.Replace, after: fields("to", "a", "as", "x", "cap", "1")},
		"a field removed from the files":             {base: fields("to", "a", "as", "x"), want: a, live: &apply.Live{Fields: fields("to", "a", "as", "x")}, action: apply.Replace, after: a},
		"a field removed here and changed elsewhere": {base: fields("to", "a", "as", "x"), want: a, live: &apply.Live{Fields: fields("to", "a", "as", "y")}, conflict: "as: was changed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := apply.State{Base: map[apply.Key]apply.Fields{}, Want: map[apply.Key]apply.Fields{}, Live: map[apply.Key]apply.Live{}}
			k := key("rule")
			if c.base != nil {
				s.Base[k] = c.base
			}
			if c.want != nil {
				s.Want[k] = c.want
			}
			if c.live != nil {
				s.Live[k] = *c.live
			}
			p := apply.New(s, c.force)
			if (c.conflict != "") != (len(p.Conflicts) == 1) {
				t.Fatalf("conflicts %v, want %q", p.Conflicts, c.conflict)
			}
			if c.conflict != "" && !strings.Contains(p.Conflicts[0].String(), c.conflict) {
				t.Errorf("conflict %q, want it to say %q", p.Conflicts[0], c.conflict)
			}
			if c.action == "" {
				if len(p.Steps) != 0 {
					t.Errorf("steps %v, want none", p.Steps)
				}
				return
			}
			if len(p.Steps) != 1 || p.Steps[0].Action != c.action || !p.Steps[0].After.Equal(c.after) {
				t.Errorf("steps %v, want %s to %s", p.Steps, c.action, c.after)
			}
		})
	}
}

// TestWhatOthersChangedIsTold: a field that stays as somebody else made it is not
// as the files say, and the plan says so; with force there is none.
func TestWhatOthersChangedIsTold(t *testing.T) {
	k, base, live := key("rule"), fields("to", "a"), fields("to", "b")
	s := apply.State{Base: map[apply.Key]apply.Fields{k: base}, Want: map[apply.Key]apply.Fields{k: base}, Live: map[apply.Key]apply.Live{k: {Fields: live}}}
	p := apply.New(s, false)
	if len(p.Kept) != 1 || p.Kept[0].Field != "to" || p.Unchanged != 0 || p.Changes() != 0 {
		t.Errorf("kept %v, %d as the files say, %d changes; want the field to, 0, 0", p.Kept, p.Unchanged, p.Changes())
	}
	if p := apply.New(s, true); len(p.Kept) != 0 || p.Changes() != 1 {
		t.Errorf("forced: kept %v, %d changes; want none, 1", p.Kept, p.Changes())
	}
}

func TestOrder(t *testing.T) {
	s := apply.State{
		Want: map[apply.Key]apply.Fields{
			{Kind: apply.Exports, Name: "b"}: {}, {Kind: apply.Exports, Name: "a"}: {},
			{Kind: apply.Imports, Name: "a"}: {}, {Kind: apply.Peers, Name: "z"}: {}, {Kind: apply.Intentions, Name: "a"}: {},
		},
		Base: map[apply.Key]apply.Fields{{Kind: apply.Intentions, Name: "old"}: {}, {Kind: apply.Exports, Name: "old"}: {}},
		Live: map[apply.Key]apply.Live{{Kind: apply.Intentions, Name: "old"}: live(apply.Fields{}), {Kind: apply.Exports, Name: "old"}: live(apply.Fields{})},
	}
	var got []string
	for _, step := range apply.New(s, false).Steps {
		got = append(got, string(step.Action)+" "+step.Key.String())
	}
	want := "[create peers/z create intentions/a create exports/a create exports/b create imports/a remove exports/old remove intentions/old]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestGuardOfRemovals(t *testing.T) {
	for _, c := range []struct {
		applied, removals, asked int
		ok                       bool
	}{
		{3, 3, 0, true}, {4, 4, 0, false}, {4, 4, 4, true}, {4, 4, 3, false}, {100, 20, 0, true}, {100, 21, 0, false}, {100, 100, 100, true},
	} {
		s := apply.State{Base: map[apply.Key]apply.Fields{}, Live: map[apply.Key]apply.Live{}}
		for i := range c.removals {
			k := key(fmt.Sprint(i))
			s.Base[k], s.Live[k] = fields("to", "a"), live(fields("to", "a"))
		}
		err := apply.New(s, false).Guard(c.applied, c.asked)
		var g *apply.GuardError
		if (err == nil) != c.ok || err != nil && (!errors.As(err, &g) || g.Removals != c.removals) {
			t.Errorf("%d of %d, asked %d: %v", c.removals, c.applied, c.asked, err)
		}
	}
}

// states draws three states over few names and values, so that they overlap.
func states(t *rapid.T) apply.State {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	rule := rapid.Custom(func(t *rapid.T) apply.Fields {
		f := apply.Fields{}
		for _, field := range []string{"to", "as", "cap"} {
			if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, field); v != "" {
				f[field] = json.RawMessage(v)
			}
		}
		return f
	})
	set := rapid.MapOf(rapid.Map(name, key), rule)
	s := apply.State{Base: set.Draw(t, "base"), Want: set.Draw(t, "want"), Live: map[apply.Key]apply.Live{}}
	for k, f := range set.Draw(t, "live") {
		s.Live[k] = live(f)
	}
	return s
}

// done is the state after the plan was carried out.
func done(s apply.State, p *apply.Plan) apply.State {
	next := apply.State{Base: maps.Clone(s.Base), Want: s.Want, Live: maps.Clone(s.Live)}
	for _, step := range p.Steps {
		switch step.Action {
		case apply.Create, apply.Replace:
			next.Live[step.Key] = live(step.After)
			next.Base[step.Key] = s.Want[step.Key]
		case apply.Remove:
			delete(next.Live, step.Key)
			delete(next.Base, step.Key)
		case apply.Adopt:
			next.Base[step.Key] = s.Want[step.Key]
		case apply.Forget:
			delete(next.Base, step.Key)
		}
	}
	return next
}

func TestApplyingTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states(t)
		force := rapid.Bool().Draw(t, "force")
		p := apply.New(s, force)
		if len(p.Conflicts) > 0 {
			return // nothing is carried out
		}
		again := apply.New(done(s, p), force)
		if len(again.Steps) != 0 || len(again.Conflicts) != 0 {
			t.Fatalf("a second time: %v, conflicts %v", again.Steps, again.Conflicts)
		}
	})
}

func TestForcedFilesAlwaysWin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states(t)
		p := apply.New(s, true)
		if len(p.Conflicts) > 0 {
			t.Fatalf("conflicts %v", p.Conflicts)
		}
		after := done(s, p)
		for k, f := range s.Want {
			if !after.Live[k].Fields.Equal(f) {
				t.Fatalf("%s is %s, the files want %s", k, after.Live[k].Fields, f)
			}
		}
		for k, l := range s.Live {
			if s.Want[k] == nil && s.Base[k] == nil && !after.Live[k].Fields.Equal(l.Fields) {
				t.Fatalf("%s is none of the set's and was changed", k)
			}
		}
	})
}

// What somebody else changed and the files did not is never written over.
func TestOthersChangesStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states(t)
		p := apply.New(s, false)
		for _, step := range p.Steps {
			base, want, have := s.Base[step.Key], s.Want[step.Key], s.Live[step.Key].Fields
			if step.Action != apply.Replace {
				continue
			}
			for name, v := range have {
				if string(base[name]) == string(want[name]) && string(step.After[name]) != string(v) {
					t.Fatalf("%s: %s of somebody else is lost: %v", step.Key, name, step)
				}
			}
		}
	})
}
