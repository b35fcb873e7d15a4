package main

import (
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
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

// heap is what is in use after two collections.
func heap() uint64 {
	debug.FreeOSMemory()
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
