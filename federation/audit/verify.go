package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxProblems bounds what one verification reports.
const maxProblems = 100

// Report is what a verification found.
type Report struct {
	// Intact is set where there is no problem.
	Intact bool `json:"intact"`
	// Entries were read, from First to Last, in Files files.
	Entries uint64 `json:"entries"`
	Files   int    `json:"files"`
	First   uint64 `json:"first" doc:"Sequence of the oldest entry that is kept."`
	Last    uint64 `json:"last" doc:"Sequence of the newest entry."`
	// Head is the hash of the newest entry: compared with one that was kept
	// elsewhere it shows that nothing was cut off.
	Head string `json:"head" doc:"Hash of the newest entry; keep it elsewhere to find out later that nothing was cut off."`
	// Problems are the first maxProblems.
	Problems []Problem `json:"problems,omitempty"`
	// Truncated is set where there are more.
	Truncated bool `json:"truncated,omitempty" doc:"There are more problems."`
}

// Problem is one place where the log is not what it was.
type Problem struct {
	File string `json:"file"`
	// Line counts from 1.
	Line int `json:"line"`
	// After is the sequence of the last entry before it that is sound.
	After uint64 `json:"after" doc:"Sequence of the last sound entry before it."`
	What  string `json:"what"`
}

// Verify reads the log in dir, which may be in use, and checks every line and the
// chain. The error means that it could not be read; what is wrong with it is in
// the report.
func Verify(ctx context.Context, dir string) (*Report, error) {
	files, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	c := newChecker()
	for _, f := range files {
		if err := c.file(ctx, f); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return c.done(), nil
}

// checker follows the chain.
type checker struct {
	report   Report
	previous string // hash of the last sound entry; "" after a problem: unknown
	started  bool
	// torn is where the last file ends in the middle of a line, else -1.
	torn int64
}

func newChecker() *checker { return &checker{report: Report{Head: noHash()}, torn: -1} }

func (c *checker) done() *Report {
	c.report.Intact = len(c.report.Problems) == 0
	return &c.report
}

func (c *checker) fail(f file, line int, format string, args ...any) {
	c.previous = ""
	if len(c.report.Problems) == maxProblems {
		c.report.Truncated = true
		return
	}
	c.report.Problems = append(c.report.Problems, Problem{
		File: filepath.Base(f.path), Line: line, After: c.report.Last, What: fmt.Sprintf(format, args...),
	})
}

// file checks the first f.size bytes of a file: more may be being written.
func (c *checker) file(ctx context.Context, f file) error {
	c.report.Files++
	c.torn = -1
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	in := bufio.NewReaderSize(io.LimitReader(r, f.size), MaxLine)
	var at int64
	for n := 1; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			c.torn = at
			c.fail(f, n, "the last line is cut off after %d bytes", len(line))
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			c.fail(f, n, "a line has more than %d bytes", MaxLine)
			skipped, err := skipLine(in)
			if err != nil {
				return err
			}
			at += int64(len(line)) + skipped
			continue
		case err != nil:
			return err
		}
		at += int64(len(line))
		c.line(f, n, bytes.TrimSuffix(line, []byte("\n")))
	}
}

func skipLine(in *bufio.Reader) (int64, error) {
	var skipped int64
	for {
		more, err := in.ReadSlice('\n')
		skipped += int64(len(more))
		if errors.Is(err, io.EOF) {
			return skipped, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return skipped, err
		}
	}
}

func (c *checker) line(f file, n int, line []byte) {
	e, err := decode(line)
	if err != nil {
		c.fail(f, n, "the line is not what was written: %v", err)
		return
	}
	switch {
	case !c.started:
		// The files before may have been dropped as too old.
		if e.Sequence == 1 && e.Previous != noHash() {
			c.fail(f, n, "the first entry claims one before it")
		}
		c.report.First = e.Sequence
	case c.previous == "": // after a problem the chain is taken up where it goes on
		if e.Sequence <= c.report.Last {
			c.fail(f, n, "entry %d comes after entry %d", e.Sequence, c.report.Last)
		}
	case e.Sequence != c.report.Last+1:
		c.fail(f, n, "entry %d comes after entry %d", e.Sequence, c.report.Last)
	case e.Previous != c.previous:
		c.fail(f, n, "entry %d does not follow the entry that stands before it", e.Sequence)
	}
	if n == 1 && e.Sequence != f.first {
		c.fail(f, n, "the file begins with entry %d, its name says %d", e.Sequence, f.first)
	}
	c.started = true
	c.previous = e.Hash
	c.report.Entries++
	c.report.Last, c.report.Head = max(c.report.Last, e.Sequence), e.Hash
}
