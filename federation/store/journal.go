package store

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// The journal is the store's second copy, beside its file: a snapshot of
// everything, then every transaction. Neither a page that rots nor a byte that
// flips is in both. A frame is
//
//	length (4 bytes, big endian), CRC-32C (4 bytes) of what follows
//	one frame as JSON
//
// and is synced before its transaction is acknowledged. A frame that a crash has
// torn is the last one, and was acknowledged to nobody.
const (
	journalMagic  = "isthmus-journal/1\n"
	journalHeader = 4 + 4
	// journalChunk is how many items of a snapshot one frame holds.
	journalChunk = 64
	// maxFrame bounds what is read back: journalChunk items as base64.
	maxFrame = journalChunk * (MaxValue + 1024) * 4 / 3
	// journalSlack is what may be appended before the snapshot is made anew, or as
	// much as the snapshot has where that is more.
	journalSlack = 1 << 20
)

type journalItem struct {
	Kind     string `json:"k"`
	Name     string `json:"n"`
	Value    []byte `json:"v,omitempty"`
	Revision uint64 `json:"r"`
	Deleted  bool   `json:"d,omitempty"`
}

// frame is one transaction, or a part of the snapshot that the file begins with.
type frame struct {
	// Before is the revision that the frame follows, Revision the one it leads to.
	Before   uint64        `json:"before"`
	Revision uint64        `json:"revision"`
	More     bool          `json:"more,omitempty"` // the snapshot goes on
	Items    []journalItem `json:"items"`
}

type journal struct {
	path string
	// noSync leaves out fsync in tests.
	noSync bool
	file   *durable.File // nil: to be made anew at the next write
	size   int64
	base   int64 // of the snapshot
	last   uint64
}

// journalState is what a journal holds.
type journalState struct {
	items  map[Key]Item // with archives
	before uint64       // the revision before the last transaction
	last   uint64
	end    int64 // of the last whole frame
	base   int64
}

var errJournal = errors.New("journal is damaged")

// readJournal reads a journal as far as it is whole. torn tells that something
// follows that is not: a frame that a crash has cut, or damage.
func readJournal(path string) (state journalState, torn bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return state, false, err
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, 1<<20)
	magic := make([]byte, len(journalMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != journalMagic {
		return state, false, errJournal
	}
	state.items, state.end = make(map[Key]Item), int64(len(magic))
	whole := false
	for {
		fr, size, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || (whole && fr.Before != state.last) {
			torn = true
			break
		}
		state.end += size
		for _, i := range fr.Items {
			key := Key{Kind: i.Kind, Name: i.Name}
			if i.Deleted {
				delete(state.items, key)
			} else {
				state.items[key] = Item{Key: key, Value: i.Value, Revision: i.Revision}
			}
		}
		if !fr.More {
			if !whole {
				state.base, whole = state.end, true
			}
			state.before, state.last = fr.Before, fr.Revision
		}
	}
	if !whole {
		return state, torn, errJournal
	}
	return state, torn, nil
}

func readFrame(r io.Reader) (fr frame, size int64, err error) {
	var head [journalHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fr, 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fr, 0, errJournal
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fr, 0, errJournal // not io.EOF: the frame has begun
	}
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(head[4:]) {
		return fr, 0, errJournal
	}
	if err := json.Unmarshal(body, &fr); err != nil {
		return fr, 0, errJournal
	}
	return fr, int64(journalHeader) + int64(n), nil
}

func encodeFrame(fr frame) ([]byte, error) {
	body, err := json.Marshal(fr)
	if err != nil {
		return nil, err
	}
	out := make([]byte, journalHeader, journalHeader+len(body))
	binary.BigEndian.PutUint32(out, uint32(len(body)))
	binary.BigEndian.PutUint32(out[4:], crc32.Checksum(body, castagnoli()))
	return append(out, body...), nil
}

// openJournal goes on with a journal that is whole.
func openJournal(path string, state journalState, noSync bool) (*journal, error) {
	f, err := journalPoint.Open(path, os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(state.end), seekTo(f, state.end)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{path: path, noSync: noSync, file: f, size: state.end, base: state.base, last: state.last}, nil
}

func seekTo(f *durable.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// due reports whether the next write is better a new snapshot.
func (j *journal) due() bool { return j.file == nil || j.size-j.base > max(journalSlack, j.base) }

// append adds one transaction. After an error the file is no copy any more, and
// made anew at the next write.
func (j *journal) append(fr frame) error {
	data, err := encodeFrame(fr)
	if err == nil && fr.Before != j.last {
		err = fmt.Errorf("journal is at revision %d, the transaction follows %d", j.last, fr.Before)
	}
	if err == nil {
		_, err = j.file.Write(data)
	}
	if err == nil {
		err = j.sync(j.file)
	}
	if err != nil {
		_ = j.file.Close()
		j.file = nil
		return err
	}
	j.size += int64(len(data))
	j.last = fr.Revision
	return nil
}

// sync waits until f lasts.
func (j *journal) sync(f *durable.File) error {
	if j.noSync {
		return nil
	}
	return f.Sync()
}

// snapshot replaces the file by one that holds items.
func (j *journal) snapshot(items []Item, revision uint64) (err error) {
	temp := durable.Temp(j.path)
	f, err := journalPoint.Open(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), ignoreMissing(os.Remove(temp)))
		}
	}()
	w := bufio.NewWriter(f)
	size, err := writeSnapshot(w, items, revision)
	if err = errors.Join(err, w.Flush()); err != nil {
		return err
	}
	if err = j.sync(f); err != nil {
		return err
	}
	if err = journalPoint.Rename(temp, j.path); err != nil {
		return err
	}
	if err = syncDir(journalPoint, j.path, j.noSync); err != nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.size, j.base, j.last = f, size, size, revision
	return nil
}

func writeSnapshot(w io.Writer, items []Item, revision uint64) (size int64, err error) {
	n, err := io.WriteString(w, journalMagic)
	size = int64(n)
	for first := true; err == nil && (first || len(items) > 0); first = false {
		chunk := items[:min(len(items), journalChunk)]
		items = items[len(chunk):]
		fr := frame{Revision: revision, More: len(items) > 0, Items: make([]journalItem, len(chunk))}
		for i, item := range chunk {
			fr.Items[i] = journalItem{Kind: item.Key.Kind, Name: item.Key.Name, Value: item.Value, Revision: item.Revision}
		}
		var data []byte
		if data, err = encodeFrame(fr); err == nil {
			n, err = w.Write(data)
			size += int64(n)
		}
	}
	return size, err
}

func (j *journal) close() error {
	if j == nil || j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
