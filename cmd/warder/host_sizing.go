package main

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"warder/devices/virtio/balloon"
	"warder/guestinit/proto"
	"warder/supervisor/sizing"
)

// sampleTime is how long each of a guest's two answers may take: that of its balloon
// driver and that of its PID 1. One of them is enough.
const sampleTime = 3 * time.Second

// Sample tells how the guest fares.
func (vm serviceVM) Sample(ctx context.Context) (sizing.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	var (
		stats           balloon.Stats
		info            proto.Info
		noStats, noInfo error
		asking          sync.WaitGroup
	)
	asking.Go(func() { stats, noStats = vm.Machine().GuestMemory(ctx) })
	asking.Go(func() { info, noInfo = vm.Info(ctx) })
	asking.Wait()
	if noStats != nil && noInfo != nil {
		return sizing.Sample{}, errors.Join(noStats, noInfo)
	}
	m, io := vm.Machine().MemoryStats(), moved(vm.Machine().Stats().Devices)
	s := sizing.Sample{
		Time: time.Now(),
		Has:  sizing.Size{Memory: m.RAM + m.Hotplug.Plugged, CPUs: info.CPUs.Online},
		Memory: sizing.Memory{
			Total: cmp.Or(stats.Total, info.MemoryTotal), Available: cmp.Or(stats.Available, info.MemoryAvailable),
			Stalls: stats.AllocStalls,
		},
		Read: io.DiskRead + io.ShareRead,
	}
	if p := info.Pressure; p != nil {
		s.Memory.Waited, s.CPU.Waited = p.MemoryWaited, p.CPUWaited
	}
	for _, t := range vm.Machine().CPUTime() {
		s.CPU.Used += t
	}
	for _, t := range vm.Machine().CPUDelay() {
		s.CPU.Delayed += t
	}
	return s, nil
}

// Resize lets the VM have another size.
func (vm serviceVM) Resize(ctx context.Context, from, to sizing.Size) error {
	if to.Memory != from.Memory {
		if err := vm.Machine().SetMemory(to.Memory); err != nil {
			return err
		}
	}
	if to.Weight != from.Weight && vm.host.weight != 0 {
		if err := vm.Machine().SetCPUWeight(to.Weight); err != nil {
			return err
		}
	}
	if to.CPUs != from.CPUs {
		_, err := vm.SetCPUs(ctx, to.CPUs)
		return err
	}
	return nil
}
