package identity

import (
	"context"
	"crypto/sha256"
	"time"
)

const (
	// filePoll is how often the files are read: a few kilobytes, against lives of
	// minutes and more. Reading beats events of the file system here: it needs no
	// watch on each directory that a chain of symbolic links passes through, and
	// misses nothing on network file systems.
	filePoll = time.Second
	// fileSettle is how long a new content must stay the same before it is taken.
	// Helpers write three files one after the other, and each not in one step; most
	// states between give an error, but a bundle that lacks its last authority is a
	// good bundle by itself.
	fileSettle = 250 * time.Millisecond
	// fileRejudge is how often a content is judged again that did not change: time
	// alone may make it good (not yet valid) or bad (expired), and a refusal that
	// lasts should be said more than once.
	fileRejudge = time.Minute
)

// followFiles keeps the identity as the files have it, for as long as ctx lives.
func (s *Source) followFiles(ctx context.Context) {
	var seen, judged [sha256.Size]byte
	var when time.Time
	for ctx.Err() == nil {
		set, wait := s.opts.Files.read(), filePoll
		switch now := s.now(); {
		case set.sum != seen:
			seen, wait = set.sum, fileSettle
		case set.sum != judged || now.Sub(when) >= fileRejudge:
			judged, when = set.sum, now
			s.judgeFiles(set)
		}
		pause(ctx, wait)
	}
}

func (s *Source) judgeFiles(set fileSet) {
	o, err := set.offer()
	if err == nil {
		s.apply(o)
		return
	}
	s.mu.Lock()
	s.last.answered, s.last.offered, s.last.update = true, nil, err
	s.mu.Unlock()
	s.sourceFails()
	s.metrics.offered(OriginFiles, outcomeRefused)
	s.log.Warn("identity files refused", "path", s.opts.Files.String(), "err", err)
}
