package tunnel

import (
	"bufio"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// fallbackMemory is assumed where nothing says how much memory there is.
const fallbackMemory = 2 << 30

// usableMemory is how much memory the process may use, in bytes: the least of
// the Go runtime's soft limit (GOMEMLIMIT), the control group's limit and what
// the machine has.
func usableMemory() int64 {
	limit := int64(math.MaxInt64)
	if soft := debug.SetMemoryLimit(-1); soft > 0 {
		limit = min(limit, soft)
	}
	if v, ok := cgroupMemory("/sys/fs/cgroup/memory.max"); ok {
		limit = min(limit, v)
	}
	if v, ok := machineMemory("/proc/meminfo"); ok {
		limit = min(limit, v)
	}
	if limit == math.MaxInt64 {
		return fallbackMemory
	}
	return limit
}

func cgroupMemory(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // "max" means no limit
	return v, err == nil && v > 0
}

func machineMemory(path string) (int64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close() //nolint:errcheck // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err == nil && kib > 0
		}
	}
	return 0, false
}
