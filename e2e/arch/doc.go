// Package arch holds the architecture test: what the design promises about the
// shape of this repository, as tables that fail with the reason of the rule
// they found broken.
//
//   - graph_test.go: which package may import which (the same graph that
//     .golangci.yml writes for editors), which packages are pure, and where a
//     heavy or dangerous dependency may appear;
//   - files_test.go: length and names of files, a comment for each package, no
//     path of a build machine;
//   - idiom_test.go: what a linter has no name for;
//   - module_test.go: pinned versions, and what must never be in go.mod.
//
// A rule that names a package which does not exist fails as well, so that a
// rename cannot switch a rule off. The package has no code outside its tests.
package arch
