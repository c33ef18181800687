package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemoryLeft is how many bytes more this process can use before one of the groups
// that it is in has its memory.max; math.MaxUint64 where none has a bound. What
// the kernel can take back from files counts as left.
func (p Place) MemoryLeft() uint64 { return memoryLeft(p.Dir, root) }

func memoryLeft(dir, root string) uint64 {
	left := uint64(math.MaxUint64)
	for ; dir != "" && dir != root && dir != "/"; dir = filepath.Dir(dir) {
		most, err := number(dir, "memory.max") // "max" for no bound
		if err != nil {
			continue
		}
		used, err := number(dir, "memory.current")
		if err != nil {
			continue
		}
		// shmem is counted as file, and guests' memory is shmem.
		files, shared := stat(dir, "file"), stat(dir, "shmem")
		used -= min(used, files-min(files, shared))
		left = min(left, most-min(most, used))
	}
	return left
}

func number(dir, file string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// stat is a value of memory.stat, 0 when it is not there.
func stat(dir, key string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
