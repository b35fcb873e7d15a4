package keep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// Refusals of a file. They are wrapped with the path, the value and the rule.
var (
	// ErrMode: others than the owner may read or write the file, or it is owned by somebody else, or no regular file.
	ErrMode = errors.New("file is not private")
	// ErrCorrupt: the digest, the format or a value in it is wrong.
	ErrCorrupt = durable.ErrCorrupt
)

// Private is the mode of files that hold keys.
const Private fs.FileMode = 0o600

// headerRoom is more than the header of a copy takes.
const headerRoom = 1024

// Write replaces path by data: after a crash there is the old content or the new
// one. The file has exactly the given mode, whatever the umask.
func Write(point durable.Point, path string, data []byte, mode fs.FileMode) error {
	return point.Replace(path, mode, func(f *durable.File) error {
		_, err := f.Write(data)
		return err
	})
}

// Save writes a private file that Load reads.
func Save(point durable.Point, path, kind string, body []byte) error {
	return Write(point, path, durable.Seal(kind, body), Private)
}

// Load reads what Save wrote. Where one of its two copies is damaged, damage says
// so, and the file is written anew from the other one. Errors wrap fs.ErrNotExist,
// ErrMode or ErrCorrupt.
func Load(point durable.Point, path, kind string, limit int64) (body []byte, damage, err error) {
	data, err := ReadPrivate(path, 2*(limit+headerRoom))
	if err != nil {
		return nil, nil, err
	}
	body, damage, err = durable.Open(kind, data)
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("%w: larger than %d bytes", ErrCorrupt, limit)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if damage != nil {
		// What cannot be written now is good enough to be read.
		damage = errors.Join(fmt.Errorf("%s: %w", path, damage), Save(point, path, kind, body))
	}
	return body, damage, nil
}

// ReadPrivate reads a file that must be a regular file of the process's own user
// with no permission for anybody else, of at most limit bytes. The checks are on
// the opened file, so that nothing can be swapped in between. Errors wrap
// fs.ErrNotExist, ErrMode or ErrCorrupt.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	f, err := openNoFollow(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: it is no regular file (%s)", path, ErrMode, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w: mode is %#o, it must be %#o", path, ErrMode, perm, Private)
	}
	if err := ownedByUs(info); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrMode, err)
	}
	data, err := ReadBounded(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// ReadShared reads a regular file that another program keeps for us, through
// symbolic links, of at most limit bytes. Its mode must not have any of the
// forbidden bits; who owns it is not ours to say. Errors wrap fs.ErrNotExist,
// ErrMode or ErrCorrupt.
func ReadShared(path string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	f, err := openNoWait(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: it is no regular file (%s)", path, ErrMode, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&forbidden != 0 {
		return nil, fmt.Errorf("%s: %w: mode is %#o, it must not have any of %#o", path, ErrMode, perm, forbidden)
	}
	data, err := ReadBounded(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// ReadBounded reads all of r, or fails with ErrCorrupt when it holds more than
// limit bytes.
func ReadBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrCorrupt, limit)
	}
	return data, nil
}
