package main

import (
	"context"

	"warder/supervisor/hosting"
)

// Use is what the VM has used: the machine's account, and the guest's word if it says
// something before ctx ends.
func (vm serviceVM) Use(ctx context.Context) hosting.Use {
	m := vm.Machine()
	stats, memory := m.Stats(), m.MemoryStats()
	use := hosting.Use{
		VCPUs: len(stats.CPUTime), Exits: stats.Exits, Used: memory.Used,
		Granted: memory.RAM + memory.Hotplug.Plugged - min(memory.Balloon.Actual, memory.RAM),
	}
	for _, t := range stats.CPUTime {
		use.CPUTime += t
	}
	for _, d := range stats.Devices {
		switch {
		case d.Disk != nil:
			use.DiskRead += d.Disk.Read
			use.DiskWritten += d.Disk.Written
		case d.Name == "net":
			use.NetSent += d.Sent
			use.NetReceived += d.Received
		}
	}
	if info, err := vm.Info(ctx); err == nil {
		use.Guest = &hosting.GuestUse{
			MemoryTotal: info.MemoryTotal, MemoryAvailable: info.MemoryAvailable,
			Load: info.Load, Processes: info.Processes, OOMKills: info.OOMKills,
		}
		if p := info.Pressure; p != nil {
			use.Guest.Pressure = &hosting.Pressure{CPU: p.CPU, Memory: p.Memory, IO: p.IO}
		}
	}
	return use
}
