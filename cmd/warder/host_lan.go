package main

import (
	"log/slog"
	"slices"

	"warder/supervisor/network"
)

// startLAN brings the LAN of a configuration up, nil if it has none.
func (c *hostConfig) startLAN(log *slog.Logger) (*network.Network, error) {
	if c.LAN == nil {
		return nil, nil
	}
	var services []network.Service
	for _, v := range slices.Concat(c.VMs, c.Services) {
		if v.LAN != nil {
			services = append(services, network.Service{Name: v.Name, Member: *v.LAN})
		}
	}
	return network.New(*c.LAN, services, network.Options{Log: log})
}
