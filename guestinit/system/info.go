package system

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

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
	return info, nil
}

// pressure is nil where the kernel does not tell: it was built without, or started so.
func pressure() *proto.Pressure {
	var p proto.Pressure
	for name, to := range map[string]*float64{"cpu": &p.CPU, "memory": &p.Memory, "io": &p.IO} {
		b, err := os.ReadFile("/proc/pressure/" + name)
		if err != nil {
			return nil
		}
		*to = some10(b)
	}
	return &p
}

// some10 is avg10 of the first line of a file of /proc/pressure, 0 if it has none.
func some10(b []byte) float64 {
	for _, f := range strings.Fields(string(b)) {
		if v, ok := strings.CutPrefix(f, "avg10="); ok {
			n, _ := strconv.ParseFloat(v, 64)
			return n
		}
	}
	return 0
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
