// Package consulkv is a store.Store in the key-value store of Consul, for several
// federations of one cluster that serve side by side.
//
// A transaction of the store is one of Consul's (PUT /v1/txn) with check-and-set
// on every key; an item's revision is its key's ModifyIndex. Each write carries a
// random number in its key's flags: Consul would else pass over a write of the
// value that is there, and its revision would be used twice; and by it a write
// whose answer was lost is found again.
//
// Items are below PREFIX/items and are held in memory. Run follows them by a
// blocking query under HashiCorp's rules: an index that went back starts anew, a
// return is no proof of a change, the rate is limited. Archives are below
// PREFIX/archive and are read when they are asked for. PREFIX/items/meta/store
// marks the store: a list without it is not the whole one, whatever its status
// says (a token that lost a permission sees an empty store), and replaces
// nothing. Only Initialize sets it, at an operator's word: a replica that comes
// upon an empty prefix cannot know whether the cluster is new.
//
// While Consul is out of reach, reads go on from memory and writes return
// ErrNotWritable; a process that starts then serves from the last good copy in
// its cache directory. A Consul that was restored from a backup shows older items
// with older revisions: they are told as changes.
//
// Lease and Presence are sessions on keys below PREFIX/replicas: who is there,
// and who of them is the exporter.
package consulkv
