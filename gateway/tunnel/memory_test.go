package tunnel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryLimits(t *testing.T) {
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "limit")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if v, ok := cgroupMemory(write("268435456\n")); !ok || v != 256<<20 {
		t.Errorf("a limit: %d, %v", v, ok)
	}
	for _, content := range []string{"max\n", "", "-1", "lots"} {
		if v, ok := cgroupMemory(write(content)); ok {
			t.Errorf("%q: %d", content, v)
		}
	}
	if v, ok := machineMemory(write("MemFree: 1 kB\nMemTotal:       2097152 kB\n")); !ok || v != 2<<30 {
		t.Errorf("a machine: %d, %v", v, ok)
	}
	for _, content := range []string{"", "MemTotal:", "MemTotal: x kB", "MemTotal: 0 kB"} {
		if v, ok := machineMemory(write(content)); ok {
			t.Errorf("%q: %d", content, v)
		}
	}
	if _, ok := cgroupMemory("/nonexistent"); ok {
		t.Error("a file that is not there")
	}
	if _, ok := machineMemory("/nonexistent"); ok {
		t.Error("a file that is not there")
	}
	if v := usableMemory(); v < 64<<20 {
		t.Errorf("this machine has %d bytes", v)
	}
}

// The rules that hold between windows, whatever the machine.
func TestWindowsFollowTheBudget(t *testing.T) {
	for _, budget := range []int64{minBudget, 128 << 20, 1 << 30, 16 << 30, 1 << 40} {
		w := newWindows(budget)
		if w.initial < minInitialWindow || w.initial > maxInitialWindow || w.largest < w.initial {
			t.Errorf("%d MiB: initial %d, largest %d", budget>>20, w.initial, w.largest)
		}
		if n := int64(w.inbound()); n < 1 || n*w.initial > budget || n > maxInbound {
			t.Errorf("%d MiB: %d connections of %d", budget>>20, n, w.initial)
		}
		if w.largest > windowsPerConnection*maxStreamWindow || w.largest > budget/4 && w.largest > w.initial {
			t.Errorf("%d MiB: largest %d", budget>>20, w.largest)
		}
	}
	w := newWindows(minBudget)
	if !w.take(minBudget-1) || w.take(2) || !w.take(1) || w.take(1) {
		t.Error("the budget is not kept")
	}
	w.give(minBudget)
	if !w.take(minBudget) {
		t.Error("what was given back is not there")
	}
}
