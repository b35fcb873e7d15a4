package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is one file of an archive.
type entry struct {
	name string
	mode int64
	data []byte
	uid  int
	dir  bool
}

// writeTar writes entries with the time of the commit and no user of this machine.
func writeTar(entries []entry, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: at, Typeflag: tar.TypeReg, Uid: e.uid, Gid: e.uid, Format: tar.FormatPAX}
		if e.dir {
			h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// writeTarGz writes a compressed archive to a file.
func writeTarGz(path string, entries []entry, at time.Time) error {
	plain, err := writeTar(entries, at)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(plain); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// tree reads a folder as entries below a name, in order.
func tree(dir, below string) ([]entry, error) {
	var all []entry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		all = append(all, entry{name: filepath.ToSlash(filepath.Join(below, rel)), mode: 0o644, data: data})
		return err
	})
	return sorted(all), err
}

// archive publishes the plain binary with its licences, for hosts without packages.
func (r *release) archive(p program, arch string) error {
	base := p.name + "_" + r.source.version + "_linux_" + arch
	var all []entry
	for name, mode := range map[string]int64{p.name: 0o755, p.name + ".copyright": 0o644, p.name + ".cdx.json": 0o644} {
		data, err := os.ReadFile(filepath.Join(r.staged(arch), name))
		if err != nil {
			return err
		}
		all = append(all, entry{name: base + "/" + name, mode: mode, data: data})
	}
	return writeTarGz(filepath.Join(r.dist(), base+".tar.gz"), sorted(all), r.source.time)
}

// sorted orders entries by name.
func sorted(all []entry) []entry {
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all
}
