package hostinfo

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"warder/vmm/cgroup"
)

// Memory is the host's main memory, in bytes.
type Memory struct {
	Total     uint64 `json:"total"`
	Available uint64 `json:"available"` // "for starting new applications, without swapping"
}

// ReadMemory looks at the host's memory, of which a cgroup may leave this process
// less.
func ReadMemory() Memory {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Memory{}
	}
	m := parseMeminfo(string(b))
	m.Available = min(m.Available, cgroup.Find().MemoryLeft())
	return m
}

// parseMeminfo reads /proc/meminfo, whose numbers are KiB.
func parseMeminfo(s string) (m Memory) {
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 54)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			m.Total = n << 10
		case "MemAvailable":
			m.Available = n << 10
		}
	}
	return m
}
