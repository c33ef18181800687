package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"warder/secmon/lan/monitor"
	"warder/secmon/share"
	"warder/secmon/watch"
	"warder/supervisor/declaration"
	"warder/supervisor/journal"
	"warder/supervisor/network"
)

// startLAN brings the LAN of a configuration up, nil if it has none, and the monitor of what
// VMs say on it and by vsock, which reports to w.
func (c *hostConfig) startLAN(w *watch.Watch, demand *holder, added []journal.Service, log *slog.Logger) (*network.Network, *monitor.Monitor, error) {
	m := monitor.New(monitor.Config{Sink: w.Report, Message: w.Message})
	if c.LAN == nil {
		return nil, m, nil
	}
	var services []network.Service
	for _, v := range slices.Concat(c.VMs, c.Services) {
		if v.LAN != nil {
			services = append(services, onLANAs(v.Service))
		}
	}
	kept := make(map[string][]netip.Addr)
	for _, s := range added {
		kept[s.Name] = s.Addresses
	}
	n, err := network.New(*c.LAN, services, network.Options{Inspector: m, Hold: demand.hold, Kept: kept, Log: log})
	if err != nil {
		return nil, nil, err
	}
	w.Cut = func(flow uint64) {
		for _, at := range m.AtSwitch(flow) {
			n.Switch().Cut(at)
		}
	}
	return n, m, nil
}

// onLANAs is what a service that has a place on the LAN is there.
func onLANAs(d declaration.Service) network.Service {
	return network.Service{Name: d.Name, LAN: *d.LAN, OnDemand: d.OnDemand != nil}
}

// Join gives a service that was added its place on the LAN, and its sockets.
func (h *host) Join(d declaration.Service, keep func([]netip.Addr) error) error {
	undo, err := h.doors.open(d)
	if err != nil {
		return err
	}
	if d.LAN != nil {
		err = h.network.Put(onLANAs(d), keep)
	} else if err = keep(nil); err == nil {
		h.network.Remove(d.Name)
	}
	if err != nil {
		undo()
		return err
	}
	h.doors.settle(d)
	return nil
}

// Leave takes back what a service had by Join.
func (h *host) Leave(name string) {
	h.network.Remove(name)
	h.doors.settle(declaration.Service{Name: name})
}

// watchShares sees what VMs say to each other through files, and reports to w.
func watchShares(w *watch.Watch) *share.Monitor {
	return share.New(share.Config{Sink: w.Report, Message: w.Message, Content: w.Shared})
}

// monitorVMs has the monitors tell what only time tells, until the host stops.
func (h *host) monitorVMs() {
	ctx, cancel := context.WithCancel(context.Background())
	h.monitoring = cancel
	h.monitors.Go(func() { h.monitor.Run(ctx) })
	h.monitors.Go(func() { h.shares.Run(ctx) })
}
