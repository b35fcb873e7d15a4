// Package store keeps what operators said and what must outlive the process:
// policies and small keys such as the epoch. Catalogs are not kept here: they
// are derived, and last good copies of them are files.
//
// Store is the contract: items by kind and name, each with a revision; every
// write is a check-and-set; a list comes with the revision of the whole store,
// and Changes tells what happened since. It asks for no more than an ordered
// key-value store with compare-and-set and blocking reads can give, so that one
// that is shared by several federations of a cluster can take Bolt's place.
// storetest.Store checks the contract.
//
// A transaction makes several writes or none. Kinds that begin with
// ArchivePrefix are written like all others and not held in memory: what grows
// with time, such as the history of changes.
//
// Bolt is the implementation for one process: a bbolt file in the data
// directory, mode 0600, synced at each write. Everything but archives is read,
// checked and held in memory when it opens, so that reads go on whatever happens
// to the file; a write that the file refuses is refused to the caller and
// changes nothing. A journal beside the file is a second copy of everything: a
// file that is found damaged is set aside and rebuilt from it, and Notices says
// so until an operator has looked. Author says who asks for a change.
package store
