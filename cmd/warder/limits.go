package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/dustin/go-humanize"

	"warder/vmm"
	"warder/vmm/cgroup"
	"warder/vmm/hostinfo"
)

// joinCgroup moves this process into a group, if one is named.
func joinCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	return cgroup.Join(dir)
}

// usualWeight is that of a VM for which no other is given.
const usualWeight = 100

// shareOut makes sure that there is memory for all VMs, and gives each a part of
// the CPU time that does not depend on how many threads the others have.
func (c *hostConfig) shareOut(log *slog.Logger) error {
	if err := joinCgroup(c.Cgroup); err != nil {
		return err
	}
	if err := c.checkMemory(hostinfo.ReadMemory().Available); err != nil {
		return err
	}
	if err := tryGroup(); err != nil {
		log.Warn("VMs share CPU time by their threads, not by their weights", "because", err)
		return nil
	}
	for i := range c.VMs {
		if c.VMs[i].CPUWeight == 0 {
			c.VMs[i].CPUWeight = usualWeight
		}
	}
	return nil
}

// tryGroup does once what a VM with a weight does.
func tryGroup() error {
	g, err := cgroup.New("probe", usualWeight)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err = g.Enter(); err == nil {
		err = g.Leave()
	}
	return errors.Join(err, g.Close())
}

// checkMemory refuses VMs that may use more memory together than is available: a
// kernel that runs out of it ends this process, and all VMs with it.
func (c *hostConfig) checkMemory(available uint64) error {
	if c.Overcommit {
		return nil
	}
	var total uint64
	for _, v := range c.VMs {
		start := cmp.Or(uint64(v.memory.start), vmm.DefaultMemory)
		total += max(start, uint64(v.memory.most))
	}
	if total <= available {
		return nil
	}
	return fmt.Errorf("the VMs may use %s of memory together, and %s is available: give them less, or set overcommit: true",
		humanize.IBytes(total), humanize.IBytes(available))
}
