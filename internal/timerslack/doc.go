// Package timerslack lets a process that waits for nothing precisely be woken less
// often.
//
// A federation service works for a fraction of a millisecond, some two hundred times
// a second: whenever a peer, a source or a gateway says something. Each time the
// thread by which Go's runtime watches the others wakes up, too, and naps for 20
// microseconds at a time until all is idle again, which is a fifth of what such a
// process uses. The kernel may lengthen naps by the slack that it gives to timers:
// of 50 microseconds, if nobody says otherwise. With [Slack] the watcher naps a few
// times in place of dozens, timers that are due together fire together, and whatever
// is paced by tens of milliseconds does not notice.
//
// The slack belongs to threads and is inherited by new ones, and the runtime's are
// there before any code of ours: so the process starts itself anew, in its own place,
// once. A gateway, whose packets are paced by timers, keeps what the kernel gives.
package timerslack
