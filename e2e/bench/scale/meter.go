package main

import (
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used of all cores.
func cpuTime() time.Duration {
	used, _, _ := usage()
	return used
}

// usage is what this process has used of all cores, how much of it the kernel did
// for it, and how often a thread of it went to sleep and was woken.
func usage() (used, kernel time.Duration, sleeps int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), time.Duration(u.Stime.Nano()), u.Nvcsw
}

// own counts what this program itself uses in the process that it measures.
type own struct{ used atomic.Int64 }

// do runs f, which does not wait for anything, and counts it.
func (o *own) do(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	f()
	o.used.Add(threadTime() - began)
}

// total is what was used so far.
func (o *own) total() time.Duration { return time.Duration(o.used.Load()) }

// threadTime is what the calling thread has used, in nanoseconds.
func threadTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return t.Nano()
}

// collections counts those of garbage.
func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

// heap is what is in use after two collections. What is free stays with the process:
// once given back to the system, each page of it would have to be had, and zeroed,
// anew under the changes that are measured next, which is an eighth of what they cost
// and is no part of them.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// quantile of values that it sorts; 0 where there are none.
func quantile(values []int64, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return time.Duration(values[min(len(values)-1, int(q*float64(len(values))))])
}
