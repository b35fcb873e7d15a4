package store

import "os"

// WithOpenFile lets tests open the file on a medium that fails.
func (o BoltOptions) WithOpenFile(f func(string, int, os.FileMode) (*os.File, error)) BoltOptions {
	o.openFile = f
	return o
}

// HistoryLen is how far Changes reaches back.
const HistoryLen = historyLen

// DecodeRecord and EncodeRecord are the format of a record.
var (
	DecodeRecord = decodeRecord
	EncodeRecord = encodeRecord
	EncodeKey    = encodeKey
)

// WithoutSync leaves out fsync, for tests that open very many files.
func (o BoltOptions) WithoutSync() BoltOptions {
	o.noSync = true
	return o
}
