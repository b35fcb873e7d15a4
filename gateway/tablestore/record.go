package tablestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// magic begins every file; the number is the version of the framing.
const magic = "isthmus-table 1"

// maxBytes bounds a file that is read.
const maxBytes = route.MaxTableBytes + 128 // the header line

// ErrCorrupt means that a file is cut short or was changed.
var ErrCorrupt = errors.New("table file is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode frames a table.
func encode(t *route.Table) ([]byte, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("table %d.%d: %w", t.Epoch, t.Version, err)
	}
	head := fmt.Sprintf("%s %d %08x\n", magic, len(body), crc32.Checksum(body, castagnoli))
	return append([]byte(head), body...), nil
}

// decode is the inverse. It refuses every file that encode did not write, and a
// table that is not valid.
func decode(data []byte) (*route.Table, error) {
	head, body, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, fmt.Errorf("%w: has no header line", ErrCorrupt)
	}
	want := fmt.Sprintf("%s %d %08x", magic, len(body), crc32.Checksum(body, castagnoli))
	if string(head) != want {
		return nil, fmt.Errorf("%w: header does not match the content", ErrCorrupt)
	}
	return route.DecodeTable(body)
}
