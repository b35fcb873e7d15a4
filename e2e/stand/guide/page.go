package guide

import (
	"fmt"
	"regexp"
	"slices"
)

// fence is one block of a page, with its mark if it has one.
var fence = regexp.MustCompile("(?ms)^(?:<!-- run: ([a-z0-9 ]+) -->\n)?```([a-z]*)\n(.*?)^```$")

// proven are the languages of blocks that a page must not have unmarked: a reader
// would take them for tried.
var proven = []string{"sh", "yaml", "json"}

// blocks takes a page apart, and says what is wrong with its marks.
func blocks(page string) (marked map[string]string, problems []string) {
	marked = map[string]string{}
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		name, language, text := m[1], m[2], m[3]
		_, twice := marked[name]
		switch {
		case name == "" && slices.Contains(proven, language):
			problems = append(problems, fmt.Sprintf("a block of %s has no mark:\n%s", language, text))
		case name == "":
		case twice:
			problems = append(problems, fmt.Sprintf("two blocks are marked %q", name))
		default:
			marked[name] = text
		}
	}
	if len(marked) == 0 {
		problems = append(problems, "no block is marked")
	}
	return marked, problems
}
