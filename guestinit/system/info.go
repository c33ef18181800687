package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// Info is the guest's view of its resources, from /proc.
func Info() (proto.Info, error) {
	var info proto.Info
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return info, fmt.Errorf("sysinfo: %w", err)
	}
	info.Uptime = Uptime()
	for i, l := range si.Loads {
		info.Load[i] = float64(l) / (1 << unix.SI_LOAD_SHIFT)
	}
	info.Processes = int(si.Procs)
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return info, err
	}
	info.MemoryTotal = kibibytes(meminfo, "MemTotal:")
	info.MemoryAvailable = kibibytes(meminfo, "MemAvailable:")
	vmstat, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return info, err
	}
	info.OOMKills = field(vmstat, "oom_kill")
	info.Pressure = pressure()
	present, online, err := readCPUs(cpuDir)
	info.CPUs = proto.CPUs{Present: len(present), Online: len(online)}
	return info, err
}

// pressureDir is where the kernel tells who waits for what.
const pressureDir = "/proc/pressure"

// pressure is nil where the kernel does not tell: it was built without, or started so.
func pressure() *proto.Pressure {
	var p proto.Pressure
	for name, to := range map[string]struct {
		part   *float64
		waited *time.Duration
	}{"cpu": {&p.CPU, &p.CPUWaited}, "memory": {&p.Memory, &p.MemoryWaited}, "io": {&p.IO, new(time.Duration)}} {
		b, err := os.ReadFile(filepath.Join(pressureDir, name))
		if err != nil {
			return nil
		}
		*to.part, *to.waited = some(b)
	}
	return &p
}

// some is avg10 and total of the first line of a file of /proc/pressure, 0 if it has
// none.
func some(b []byte) (avg10 float64, total time.Duration) {
	first, _, _ := strings.Cut(string(b), "\n")
	for _, f := range strings.Fields(first) {
		if v, ok := strings.CutPrefix(f, "avg10="); ok {
			avg10, _ = strconv.ParseFloat(v, 64)
		}
		if v, ok := strings.CutPrefix(f, "total="); ok {
			us, _ := strconv.ParseUint(v, 10, 53) // whose nanoseconds fit into a Duration
			total = time.Duration(us) * time.Microsecond
		}
	}
	return avg10, total
}

func kibibytes(table []byte, key string) uint64 { return field(table, key) << 10 }

// field gives the number after key in lines of "key number ...", or 0.
func field(table []byte, key string) uint64 {
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) >= 2 && f[0] == key {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// Kernel is the running kernel's release.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
