package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// usage is what a machine has taken from its start to its guest's mark.
type usage struct {
	elapsed time.Duration
	idle    time.Duration // nothing to do for anybody
	guest   time.Duration // in the guest
	user    time.Duration // in the VMM's process, outside of the kernel
	exits   []exits
}

// exits are counted by KVM itself, under the names of its statistics.
type exits struct {
	reason string
	count  uint64
}

func (m *machine) usage() (usage, error) {
	u := usage{elapsed: m.to.clock - m.from.clock, idle: m.to.idle - m.from.idle}
	var err error
	if u.user, u.guest, err = cpuTime(m.cmd.Process.Pid); err != nil {
		return u, err
	}
	u.exits, err = kvmExits(m.others)
	return u, err
}

// tick is the unit of CPU times in /proc, which counts them by the timer's
// interrupt where the kernel does no more.
const tick = time.Second / 100

// cpuTime is a process's time in user space without and within guests
// (proc(5), /proc/pid/stat: utime, the 14th field, has guest_time, the 43rd).
func cpuTime(pid int) (user, guest time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third on
	if len(fields) < 43-2 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	utime, err1 := strconv.ParseInt(fields[14-3], 10, 64)
	gtime, err2 := strconv.ParseInt(fields[43-3], 10, 64)
	return time.Duration(utime-gtime) * tick, time.Duration(gtime) * tick, errors.Join(err1, err2)
}

// exitStats are the files of KVM's statistics (Documentation/virt/kvm/api.rst,
// KVM_GET_STATS_FD) that count exits or tell what for. They are not disjoint.
var exitStats = []string{
	"exits", "io_exits", "mmio_exits", "mmio_exit_user", "mmio_exit_kernel", "halt_exits", "irq_exits", "irq_window_exits",
	"signal_exits", "request_irq_exits", "insn_emulation", "pf_taken", "hypercalls", "hvc_exit_stat", "wfi_exit_stat", "wfe_exit_stat",
}

// kvmStats are the directories of KVM's statistics, one a VM. Their names tell
// which thread made the VM, and it need not live any more.
func kvmStats() ([]string, error) { return filepath.Glob("/sys/kernel/debug/kvm/*-*") }

// kvmExits reads KVM's statistics of the VM that is not among others.
func kvmExits(others []string) ([]exits, error) {
	dirs, err := kvmStats()
	if err != nil {
		return nil, err
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return slices.Contains(others, d) })
	if len(dirs) != 1 {
		return nil, fmt.Errorf("KVM has statistics of %d VMs of the process", len(dirs))
	}
	var all []exits
	for _, name := range exitStats {
		b, err := os.ReadFile(filepath.Join(dirs[0], name))
		if errors.Is(err, os.ErrNotExist) {
			continue // of the other architecture
		}
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if n > 0 {
			all = append(all, exits{name, n})
		}
	}
	return all, nil
}
