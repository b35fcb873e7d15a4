// Package tablestore keeps the last good route tables of a gateway on disk, so
// that it starts and forwards with every other process dead.
//
// A table is one file: a line with format, length and CRC-32C, then the table's
// JSON. It is written to a temporary file, synced and renamed, and the directory
// is synced, so that a crash at any moment leaves the old file or the new one.
// The last three are kept; Load takes the newest that is whole and valid and
// names the others, so that one bad disk block or one table that a newer
// version wrote does not cost the gateway its routes.
//
// Check is the one judge of a table, wherever it comes from: the federation's
// content is trusted no more than a user's input.
//
// The gateway loads before it does anything else and saves what it applied.
package tablestore
