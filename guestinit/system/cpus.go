package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"warder/guestinit/proto"
)

const cpuDir = "/sys/devices/system/cpu"

// SetCPUs takes CPUs on line, lowest first, or off line, highest first, until n
// of them are, and tells how many are then. The first CPU stays on line.
func SetCPUs(n int) (proto.CPUs, error) { return setCPUs(cpuDir, n) }

func setCPUs(dir string, n int) (proto.CPUs, error) {
	present, online, err := readCPUs(dir)
	if err != nil {
		return proto.CPUs{}, err
	}
	var errs []error
	if n < 1 || n > len(present) {
		errs = append(errs, proto.Errorf(proto.CodeBadRequest, "%d CPUs on line: this guest has 1 to %d", n, len(present)))
		n = len(online)
	}
	for _, cpu := range present {
		if len(online) < n && !slices.Contains(online, cpu) {
			errs = append(errs, setCPU(dir, cpu, "1"))
			online = append(online, cpu)
		}
	}
	slices.Sort(online)
	for len(online) > n {
		last := len(online) - 1
		errs = append(errs, setCPU(dir, online[last], "0"))
		online = online[:last]
	}
	// What became of it, not what was asked for.
	present, online, err = readCPUs(dir)
	return proto.CPUs{Present: len(present), Online: len(online)}, errors.Join(append(errs, err)...)
}

func setCPU(dir string, cpu int, to string) error {
	file := filepath.Join(dir, fmt.Sprintf("cpu%d", cpu), "online")
	if err := os.WriteFile(file, []byte(to), 0); err != nil {
		return fmt.Errorf("CPU %d: %w", cpu, err)
	}
	return nil
}

func readCPUs(dir string) (present, online []int, err error) {
	for _, l := range []struct {
		to   *[]int
		name string
	}{{&present, "present"}, {&online, "online"}} {
		text, err := os.ReadFile(filepath.Join(dir, l.name))
		if err != nil {
			return nil, nil, err
		}
		if *l.to, err = parseCPUs(strings.TrimSpace(string(text))); err != nil {
			return nil, nil, err
		}
	}
	return present, online, nil
}

// maxCPUs bounds a list.
const maxCPUs = 1 << 13

// parseCPUs reads a list such as 0-2,5.
func parseCPUs(list string) (cpus []int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first > last || last >= maxCPUs {
			return nil, fmt.Errorf("list of CPUs %q", list)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
