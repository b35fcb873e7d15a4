package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/durable"
	"go.etcd.io/bbolt"
)

const (
	journalSuffix = ".journal"
	damagedSuffix = ".damaged-"
	// maxDamaged bounds the files that are set aside: a medium that damages more
	// than that is to be replaced and not to be trusted once more.
	maxDamaged = 8
	// rebuildBatch is how many records one transaction of a rebuilding writes.
	rebuildBatch = 1000
)

// withJournal brings file and journal together: the file serves where it is
// whole and not older than the journal, else the journal makes a new one.
func (b *Bolt) withJournal(opts BoltOptions, db *bbolt.DB, loaded contents, openErr error) (*bbolt.DB, contents, error) {
	path := opts.Path + journalSuffix
	state, torn, err := readJournal(path)
	oe, _ := errors.AsType[*OpenError](openErr)
	switch {
	case openErr != nil && (oe == nil || oe.Reason != Damaged || err != nil):
		return nil, contents{}, openErr
	case openErr != nil:
		b.log.Error("store is damaged, it is rebuilt from its journal", "path", opts.Path, "version", state.last, "err", openErr)
		db, loaded, err = rebuild(opts, state)
	case err == nil && state.last > loaded.revision && state.before == loaded.revision:
		// bbolt goes back by one transaction where its newest meta page is damaged.
		b.log.Error("store has lost its last transaction, it is rebuilt from its journal", "path", opts.Path, "version", state.last)
		_ = guarded(db.Close)
		db, loaded, err = rebuild(opts, state)
	case err == nil && state.last == loaded.revision && !torn:
		b.journal, err = openJournal(path, state, opts.noSync)
		if err == nil {
			removeLeft(durable.Temp(path))
			return db, loaded, nil
		}
		// The file is whole and serves; the journal is made anew, now or later.
		b.log.Error("journal of the store cannot be opened", "path", path, "err", err)
		err = nil
	case err == nil && state.last > loaded.revision:
		// Another file than the journal's: restored from a backup. It holds.
		b.log.Warn("store is older than its journal, the journal starts anew", "path", opts.Path, "version", loaded.revision)
		err = errors.Join(journalPoint.Rename(path, path+".before-restore"), syncDir(journalPoint, path, opts.noSync))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		b.log.Error("journal of the store is not readable, it is made anew", "path", path, "err", err)
		err = nil
	default:
		err = nil
	}
	if err != nil {
		if db != nil {
			_ = guarded(db.Close) // or it stays locked
		}
		return nil, contents{}, &OpenError{Path: opts.Path, Reason: NotAccessible, Err: err}
	}
	b.journal, b.db = &journal{path: path, noSync: opts.noSync}, db
	if b.copyErr = b.resnap(loaded.items, loaded.revision); b.copyErr != nil {
		b.log.Error("journal of the store is not written", "path", path, "err", b.copyErr)
	}
	return db, loaded, nil
}

// removeLeft removes what a crash has left of an attempt.
func removeLeft(path string) {
	if !missing(path) {
		_ = journalPoint.Remove(path) // the next attempt writes over it
	}
}

// copy puts a transaction into the journal. The file has it already: an error
// refuses nothing, it is told as a notice and made good at the next write.
func (b *Bolt) copy(writes []Write, before, revision uint64) {
	err := error(nil)
	if b.journal.due() {
		items, _, listErr := b.mem.List("")
		all := make(map[Key]Item, len(items))
		for _, item := range items {
			all[item.Key] = item
		}
		err = errors.Join(listErr, b.resnap(all, revision))
	} else {
		fr := frame{Before: before, Revision: revision, Items: make([]journalItem, len(writes))}
		for i, w := range writes {
			fr.Items[i] = journalItem{Kind: w.Key.Kind, Name: w.Key.Name, Value: w.Value, Revision: revision, Deleted: w.Delete}
		}
		err = b.journal.append(fr)
	}
	if err != nil && b.copyErr == nil {
		b.log.Error("journal of the store is not written", "path", b.path+journalSuffix, "err", err)
	}
	b.copyErr = err
}

// resnap makes the journal anew from items and the archives in the file.
func (b *Bolt) resnap(items map[Key]Item, revision uint64) error {
	all := slices.Collect(maps.Values(items))
	err := guarded(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(archiveBucket)).ForEach(func(k, v []byte) error {
				item, err := decodeRecord(k, v)
				if err != nil {
					return fmt.Errorf("%q: %w", k, err)
				}
				all = append(all, item)
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Item) int { return bytes.Compare(encodeKey(a.Key), encodeKey(b.Key)) })
	return b.journal.snapshot(all, revision)
}

// rebuild sets the file aside and makes one from the journal. Until the new one
// is whole there is none of that name, so that a crash meanwhile rebuilds again.
func rebuild(opts BoltOptions, state journalState) (*bbolt.DB, contents, error) {
	if len(damagedFiles(opts.Path)) >= maxDamaged {
		return nil, contents{}, fmt.Errorf("%d damaged files lie beside it already", maxDamaged)
	}
	temp := opts.Path + ".rebuilding"
	if err := storePoint.Remove(temp); err != nil {
		return nil, contents{}, err
	}
	fresh := opts
	fresh.Path = temp
	db, _, err := openFile(fresh, false)
	if err != nil {
		return nil, contents{}, err
	}
	if err := errors.Join(guarded(func() error { return refill(db, state) }), guarded(db.Close)); err != nil {
		return nil, contents{}, err
	}
	aside := ""
	for n := 1; aside == ""; n++ {
		if path := fmt.Sprintf("%s%s%d", opts.Path, damagedSuffix, n); missing(path) {
			aside = path
		}
	}
	// Linked first, so that there is a file of the name at every moment.
	if err := putAside(opts, temp, aside); err != nil {
		return nil, contents{}, err
	}
	return openFile(opts, false)
}

func putAside(opts BoltOptions, temp, aside string) error {
	if err := storePoint.Link(opts.Path, aside); err != nil {
		return err
	}
	if err := storePoint.Rename(temp, opts.Path); err != nil {
		return err
	}
	return syncDir(storePoint, opts.Path, opts.noSync)
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// refill writes what a journal holds into an empty file.
func refill(db *bbolt.DB, state journalState) error {
	items := slices.SortedFunc(maps.Values(state.items), func(a, b Item) int {
		return bytes.Compare(encodeKey(a.Key), encodeKey(b.Key))
	})
	count := uint64(0)
	for _, i := range items {
		if !i.Key.Archived() {
			count++
		}
	}
	for part := range slices.Chunk(items, rebuildBatch) {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, i := range part {
				bucket := itemsBucket
				if i.Key.Archived() {
					bucket = archiveBucket
				}
				if err := tx.Bucket([]byte(bucket)).Put(encodeKey(i.Key), encodeRecord(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		return errors.Join(putNumber(meta, metaCount, count), putNumber(meta, metaRevision, state.last))
	})
}

// damagedFiles are the files that were set aside and still lie there.
func damagedFiles(path string) []string {
	found, err := filepath.Glob(path + damagedSuffix + "*")
	if err != nil {
		return nil // only a pattern can be wrong
	}
	slices.Sort(found)
	return found
}
