package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
)

// A record is what the file holds of an item:
//
//	CRC-32C (4 bytes, big endian) over everything else and the key
//	revision (8 bytes, big endian)
//	value
//
// bbolt guards its two meta pages by a checksum, and nothing else: a byte that
// flips in a page must not turn a deny into an allow.
const recordHeader = 4 + 8

var errRecord = errors.New("record fails its checksum")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func encodeKey(k Key) []byte { return []byte(k.Kind + "\x00" + k.Name) }

func decodeKey(b []byte) (Key, bool) {
	kind, name, ok := strings.Cut(string(b), "\x00")
	k := Key{Kind: kind, Name: name}
	return k, ok && k.check() == nil
}

func encodeRecord(item Item) []byte {
	b := make([]byte, recordHeader, recordHeader+len(item.Value))
	binary.BigEndian.PutUint64(b[4:], item.Revision)
	b = append(b, item.Value...)
	binary.BigEndian.PutUint32(b, recordSum(encodeKey(item.Key), b))
	return b
}

func decodeRecord(key, record []byte) (Item, error) {
	k, ok := decodeKey(key)
	if !ok || len(record) < recordHeader || len(record) > recordHeader+MaxValue ||
		binary.BigEndian.Uint32(record) != recordSum(key, record) {
		return Item{}, errRecord
	}
	// Copied: the file's mapping may go away, the item stays.
	value := append([]byte(nil), record[recordHeader:]...)
	return Item{Key: k, Value: value, Revision: binary.BigEndian.Uint64(record[4:])}, nil
}

func recordSum(key, record []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli()), castagnoli(), record[4:])
}
