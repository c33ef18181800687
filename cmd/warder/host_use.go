package main

import (
	"context"

	"warder/supervisor/hosting"
	"warder/vmm"
)

// Use is what the VM has used: the machine's account, and the guest's word if it says
// something before ctx ends.
func (vm serviceVM) Use(ctx context.Context) hosting.Use {
	m := vm.Machine()
	stats, memory := m.Stats(), m.MemoryStats()
	use := hosting.Use{
		VCPUs: len(stats.CPUTime), Exits: stats.Exits, Used: memory.Used,
		Granted:    memory.RAM + memory.Hotplug.Plugged - min(memory.Balloon.Actual, memory.RAM),
		DeviceTime: stats.DeviceTime, Throttled: stats.Throttled, IO: moved(stats.Devices),
	}
	for _, t := range stats.CPUTime {
		use.CPUTime += t
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

// moved is what a guest has moved by its devices.
func moved(devices []vmm.DeviceStats) (io hosting.IO) {
	for _, d := range devices {
		switch {
		case d.Disk != nil:
			io.DiskRead += d.Disk.Read
			io.DiskWritten += d.Disk.Written
			io.DiskRequests += d.Chains
		case d.Name == "fs":
			io.ShareRead += d.Received
			io.ShareWritten += d.Sent
			io.ShareRequests += d.Chains
		case d.Name == "net":
			io.NetSent += d.Sent
			io.NetReceived += d.Received
			io.NetFrames += d.Chains
		}
	}
	return io
}
