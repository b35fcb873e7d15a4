package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc: 100 a second on every Linux.
const tick = 10 * time.Millisecond

// cpu is the processor time, in user and in kernel mode, that processes and their
// children have used.
func cpu(pids []int) (user, kernel time.Duration, err error) {
	err = each(pids, func(pid int) error {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		// The command in parentheses may have spaces; utime and stime are fields 14 and 15.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if len(fields) < 13 {
			return fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
		}
		for i, sum := range []*time.Duration{&user, &kernel} {
			n, err := strconv.ParseInt(string(fields[11+i]), 10, 64)
			if err != nil {
				return fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			*sum += time.Duration(n) * tick
		}
		return nil
	})
	return user, kernel, err
}

// memory is what processes and their children have of the machine's, in bytes: what is
// shared counts by share (Pss).
func memory(pids []int) (sum int64, err error) {
	err = each(pids, func(pid int) error {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if size, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 10, 64)
				sum += n * kib
				return err
			}
		}
		return fmt.Errorf("/proc/%d/smaps_rollup has no Pss", pid)
	})
	return sum, err
}

// each visits processes and their children.
func each(pids []int, visit func(pid int) error) error {
	for _, pid := range pids {
		if err := visit(pid); err != nil {
			return fmt.Errorf("what a process uses is read from Linux's /proc: %w", err)
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return fmt.Errorf("children of a process: %w", err)
		}
		var children []int
		for field := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("children of process %d: %w", pid, err)
			}
			children = append(children, child)
		}
		if err := each(children, visit); err != nil {
			return err
		}
	}
	return nil
}
