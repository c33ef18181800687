package main

import (
	"context"
	"log/slog"
	"slices"

	"warder/secmon/lan/monitor"
	"warder/secmon/watch"
	"warder/supervisor/network"
)

// startLAN brings the LAN of a configuration up, and its monitor, which reports to w; both
// are nil if it has none.
func (c *hostConfig) startLAN(w *watch.Watch, log *slog.Logger) (*network.Network, *monitor.Monitor, error) {
	if c.LAN == nil {
		return nil, nil, nil
	}
	m := monitor.New(monitor.Config{Sink: w.Report, Message: w.Message})
	var services []network.Service
	for _, v := range slices.Concat(c.VMs, c.Services) {
		if v.LAN != nil {
			services = append(services, network.Service{Name: v.Name, Member: *v.LAN})
		}
	}
	n, err := network.New(*c.LAN, services, network.Options{Inspector: m, Log: log})
	return n, m, err
}

// monitorLAN has the monitor tell what only time tells, until the host stops.
func (h *host) monitorLAN(m *monitor.Monitor) {
	ctx, cancel := context.WithCancel(context.Background())
	h.monitoring = cancel
	if m != nil {
		h.monitors.Go(func() { m.Run(ctx) })
	}
}
