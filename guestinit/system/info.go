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
	return info, nil
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
