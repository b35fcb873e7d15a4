// Package tools provides the programs that the tests need and that are no
// part of the product: real peers (Consul, SPIRE, Kubernetes) and developer tools (linters, the
// test runner).
//
// Each program is pinned by a nested module beside this file, e2e/tools/NAME
// with its own go.mod and go.sum, so that nothing of it reaches the product's
// module graph. What a nested module can build is what its tool lines name;
// there is no second list.
//
// A [Builder] builds a program once into a content-addressed folder
//
//	$ISTHMUS_CACHE or the user's cache folder/isthmus/peers/NAME-KEY/NAME
//
// where KEY is a hash of everything that decides the result: go.mod, go.sum,
// flags, Go version and platform. A finished folder never changes, so reading
// it takes no lock; building takes one, so parallel runs build once. The cache
// may be deleted at any time.
//
// Tests do not build, since a peer takes minutes: they call [Require] for a
// built program and [Command] for one of the operating system. Where it is
// missing both skip loudly on a developer's machine and fail in a strict run
// (CI, and .ci/test unless told otherwise), so that a missing part cannot pass
// for a tested one.
//
// Used by .ci/test and the Makefile (through e2e/tools/build) and by the
// scenarios in e2e.
package tools
