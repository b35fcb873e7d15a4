// Package gcptest is a stand-in for Google's Compute Engine and Service Directory
// APIs, over real HTTP, for tests.
//
// There is no emulator of these. So that this one cannot drift from what it stands
// in for, every request that it gets and every answer that it gives is checked
// against the published discovery document: method, path, query parameters and
// bodies, down to unknown fields, types, formats and enums. The documents are those
// of the module google.golang.org/api that go.mod pins; they are not copied.
//
// A Server is filled (Set), and broken (Fault, Unreachable, Tokens) by the test.
// URL asks for a token that its own token endpoint has given; OpenURL asks for
// none, for clients that cannot be given one.
package gcptest
