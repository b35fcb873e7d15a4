// Package discovery reads catalogs from sources and keeps them good.
//
// A Source publishes complete, immutable snapshots (see catalog.Snapshot). Poll
// turns a fetch function into a Source. A Runner runs one Source for as long as
// the process lives: it starts it anew with back-off, refuses addresses outside
// of the source's Ranges, holds mass withdrawals back in a Guard, keeps the last
// good snapshots on disk in a Store, and tells the Status of it all.
//
// The federation service runs one Runner per configured source and merges what
// they publish. Sources live in the folders below this one and in providers;
// discoverytest holds the test that each of them passes.
package discovery
