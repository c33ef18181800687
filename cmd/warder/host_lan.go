package main

import (
	"context"
	"log/slog"
	"slices"

	"warder/secmon/lan/monitor"
	"warder/secmon/share"
	"warder/secmon/watch"
	"warder/supervisor/network"
)

// startLAN brings the LAN of a configuration up, nil if it has none, and the monitor of what
// VMs say on it and by vsock, which reports to w.
func (c *hostConfig) startLAN(w *watch.Watch, demand *holder, log *slog.Logger) (*network.Network, *monitor.Monitor, error) {
	m := monitor.New(monitor.Config{Sink: w.Report, Message: w.Message})
	if c.LAN == nil {
		return nil, m, nil
	}
	var services []network.Service
	for _, v := range slices.Concat(c.VMs, c.Services) {
		if v.LAN != nil {
			s := network.Service{Name: v.Name, Member: *v.LAN}
			s.OnDemand = v.OnDemand != nil
			services = append(services, s)
		}
	}
	n, err := network.New(*c.LAN, services, network.Options{Inspector: m, Hold: demand.hold, Log: log})
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
