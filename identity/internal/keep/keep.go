package keep

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Refusals of a file. They are wrapped with the path, the value and the rule.
var (
	// ErrMode: others than the owner may read or write the file, or it is owned by somebody else, or no regular file.
	ErrMode = errors.New("file is not private")
	// ErrCorrupt: the digest, the format or a value in it is wrong.
	ErrCorrupt = errors.New("file is corrupt")
)

// Private is the mode of files that hold keys.
const Private fs.FileMode = 0o600

// Write replaces path by data: a temporary file beside it, synced, renamed over
// it, and the directory synced, so that after a crash there is the old content or
// the new one. The file has exactly the given mode, whatever the umask.
func Write(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // created with 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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

// Seal prefixes body with a line that names its kind and its digest.
func Seal(kind string, body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(fmt.Appendf(nil, "%s sha256:%s\n", kind, hex.EncodeToString(sum[:])), body...)
}

// Open checks what Seal wrote and returns the body. Errors wrap ErrCorrupt.
func Open(kind string, data []byte) ([]byte, error) {
	line, body, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, fmt.Errorf("%w: no header line", ErrCorrupt)
	}
	sum := sha256.Sum256(body)
	if want := fmt.Appendf(nil, "%s sha256:%s", kind, hex.EncodeToString(sum[:])); !bytes.Equal(line, want) {
		return nil, fmt.Errorf("%w: header does not fit kind %q and content", ErrCorrupt, kind)
	}
	return body, nil
}
